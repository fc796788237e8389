"""One small asynchronous protocol, three engines: vLLM in process, any OpenAI-compatible server, transformers."""
