"""Report pages: one self-contained HTML file each, from plain values, with charts drawn as inline SVG."""
