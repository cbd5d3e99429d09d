"""Frees processors of the emulated host from an interrupt that never ends. Standard library only.

Now and then QEMU's emulation (TCG, two processors) leaves the vector of the timer in the in-service register of a local
APIC, though its handler does not run: ``info lapic`` of QEMU's monitor shows it in ISR and, again, in IRR. That
processor then gets no timer and no interrupt of a device any more, and all who wait for the disk hang. Interrupts
between processors have a higher priority and still arrive, so each processor is woken by the others to look at its
own register. A program's instruction never runs within an interrupt: what it finds there is left over, and is ended.

It runs inside the lab, beside the command daemon, and tells the kernel's log of each case.
"""

from __future__ import annotations

import mmap
import os
import threading
import time

SECONDS = 0.5
# Intel SDM, volume 3, "Local APIC Register Address Map": 32-bit registers, 16 bytes apart; ISR has 8 of them.
_BASE, _SIZE = 0xFEE00000, 0x1000
_END_OF_INTERRUPT, _IN_SERVICE, _STEP, _REGISTERS = 0x0B0, 0x100, 0x10, 8
_WORD, _BITS = 4, 32


def _pin(processor: int) -> None:
    """This thread alone."""
    os.sched_setaffinity(0, {processor})


def _in_service(registers: memoryview) -> list[int]:
    """Vectors, in order."""
    words = [registers[(_IN_SERVICE + n * _STEP) // _WORD] for n in range(_REGISTERS)]
    return [n * _BITS + bit for n, word in enumerate(words) for bit in range(_BITS) if word >> bit & 1]


def _look(processor: int, wake: int) -> None:
    """Whenever it is woken, end what is left in service on its processor."""
    _pin(processor)
    device = os.open("/dev/mem", os.O_RDWR | os.O_SYNC | os.O_CLOEXEC)
    registers = memoryview(mmap.mmap(device, _SIZE, offset=_BASE)).cast("I")
    while True:
        os.eventfd_read(wake)
        left = _in_service(registers)
        for _ in left:
            registers[_END_OF_INTERRUPT // _WORD] = 0
        if left:
            _tell(f"processor {processor} was left with interrupt {left} in service: ended")


def _tell(text: str) -> None:
    with open("/dev/kmsg", "w", encoding="ascii") as log:  # noqa: PTH123 - one write(2) is one line
        log.write(f"<3>lab: {text}\n")


def main() -> None:
    """Wake each processor from all others, for ever."""
    processors = sorted(os.sched_getaffinity(0))
    wakes = {processor: os.eventfd(0) for processor in processors}
    for processor, wake in wakes.items():
        threading.Thread(target=_look, args=(processor, wake), daemon=True).start()

    def tick(processor: int) -> None:
        _pin(processor)
        while True:
            time.sleep(SECONDS)
            for other in processors:
                if other != processor:
                    os.eventfd_write(wakes[other], 1)

    ticking = [threading.Thread(target=tick, args=(processor,)) for processor in processors]
    for thread in ticking:
        thread.start()


if __name__ == "__main__":
    main()
