"""What the system tests are made of: a raw peer (wire), origins that do as they are told (origin), the binary
under test (process), and short ways to write a configuration (config)."""
