"""What the whole-process tests share: transports, guest invariants, a cutting proxy."""
