"""What a network card is plugged into: back ends that carry Ethernet frames out of the emulator."""
