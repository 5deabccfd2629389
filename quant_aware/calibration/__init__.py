"""Which weights get which bits, and rounding that looks at inputs."""
