"""Jobs in containers, the image they run in, and what that image starts."""
