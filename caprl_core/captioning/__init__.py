"""The captioning stage: prompt, checks and row of a re-captioned image."""
