# e2kemu. `make demo` sets itself up and migrates a running guest; `make test` sets itself up and runs every check.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test pytest matrix bench lint firmware fuzz hops clean

demo: $(STAMP)
	$(BIN)/python -m e2kemu.demo

# Types take one processor a while; the tests need not wait for that.
test: $(STAMP)
	$(MAKE) --no-print-directory --jobs=2 lint pytest

pytest: $(STAMP)
	$(BIN)/pytest -n 2 --dist worksteal

# Cut, stall and kill at every message of every kind of migration: half an hour.
matrix: $(STAMP)
	$(BIN)/pytest -n 2 --dist worksteal --matrix -rA tests/integration/test_every_message.py

# Quick forms. `python bench/migration.py --versus-qemu` takes its time and compares with an installed QEMU.
bench: $(STAMP)
	$(BIN)/python bench/migration.py --quick
	$(BIN)/python bench/isa.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The boot ROM and the kernel from their sources, with our own assembler (tests check that the images are current).
firmware: $(STAMP)
	$(BIN)/e2kemu-as -cpu v3 --raw firmware/boot.s --base 0x100000000 -o e2kemu/firmware_images/boot.bin
	$(BIN)/e2kemu-as -cpu v4 --base 0x01000000 firmware/kernel/kernel.s -o e2kemu/firmware_images/kernel-v4.elf
	$(BIN)/e2kemu-as -cpu v6 --base 0x01000000 firmware/kernel/kernel.s -o e2kemu/firmware_images/kernel-v6.elf

# The kernel goes from emulator to emulator, fifty times in each way, while some of them are killed.
hops: $(STAMP)
	$(BIN)/python -m tests.kernel.hops --count 50

# For the night: a million sources, a million pieces of code, a hundred thousand wide instructions in every tier, an hour
# of hostile guests.
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz.asm --count 1000000
	$(BIN)/python -m tests.fuzz.code --count 1000000
	$(BIN)/python -m tests.fuzz.tiers --count 100000
	$(BIN)/python -m tests.fuzz.hostile --seconds 3600

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[demo,test]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
