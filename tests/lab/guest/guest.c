/*
 * The test guest: a multiboot program that runs seconds after `virsh start`, even emulated within an emulation.
 *
 * It tells on its first serial port which PCI devices it sees:
 *     GUEST up
 *     GUEST plugged BB:DD.F vvvv:dddd
 *     GUEST gone BB:DD.F
 *     GUEST unplug requested slots MMMMMMMM ejected|refused
 * and answers QEMU's ACPI unplug requests. With "refuse" on its command line it ignores them, as a guest does that
 * has no running kernel or does not let go. It has no drivers and moves no packets.
 *
 * Register layout: QEMU, docs/specs/acpi_pci_hotplug.rst (up +0, down +4, eject +8, bus selector +16).
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

enum {
    SERIAL = 0x3f8,
    CONFIG_ADDRESS = 0xcf8,
    CONFIG_DATA = 0xcfc,
    HOTPLUG_Q35 = 0x0cc0,
    HOTPLUG_I440FX = 0xae00,
    BUSES = 16,       /* more than any test's guest has; each one costs 32 reads per round */
    SELECTORS = 32,
    MAX_FUNCTIONS = 256,
    TICK_VECTOR = 0x20,
    TICK_DIVISOR = 59659, /* of 1193182 Hz: 20 times a second */
};

#define MULTIBOOT_MAGIC 0x1BADB002u
#define NOTHING 0xffffffffu

struct multiboot_info {
    u32 flags, memory[2], boot_device, command_line;
};

struct list {
    int length;
    u32 function[MAX_FUNCTIONS]; /* bus << 16 | device << 11 | function << 8, as in CONFIG_ADDRESS */
    u32 id[MAX_FUNCTIONS];
};

__attribute__((section(".multiboot"), used, aligned(4)))
static const u32 multiboot_header[3] = { MULTIBOOT_MAGIC, 0, -MULTIBOOT_MAGIC };

static struct list lists[2];

static void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static void out32(u16 port, u32 value) { __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }

static u8 in8(u16 port)
{
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static u32 in32(u16 port)
{
    u32 value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void say(const char *text)
{
    for (; *text; text++) {
        while (!(in8(SERIAL + 5) & 0x20))
            ;
        out8(SERIAL, (u8)*text);
    }
}

static void say_hex(u32 value, int digits)
{
    char text[2] = { 0, 0 };
    while (digits--) {
        text[0] = "0123456789abcdef"[value >> (4 * digits) & 15];
        say(text);
    }
}

static void say_function(const char *what, u32 function)
{
    say("GUEST ");
    say(what);
    say_hex(function >> 16, 2);
    say(":");
    say_hex(function >> 11 & 31, 2);
    say(".");
    say_hex(function >> 8 & 7, 1);
}

static u32 config(u32 function, u32 offset)
{
    out32(CONFIG_ADDRESS, 0x80000000u | function | offset);
    return in32(CONFIG_DATA);
}

static int has(const struct list *list, u32 function)
{
    for (int i = 0; i < list->length; i++)
        if (list->function[i] == function)
            return 1;
    return 0;
}

/* Functions other than 0 exist only if the header of function 0 says so. */
static void scan_slot(struct list *list, u32 slot)
{
    for (u32 function = slot; function < slot + (8 << 8); function += 1 << 8) {
        u32 id = config(function, 0);
        if (id != NOTHING && list->length < MAX_FUNCTIONS) {
            list->function[list->length] = function;
            list->id[list->length++] = id;
        }
        if (function == slot && (id == NOTHING || !(config(slot, 0xc) & 0x800000)))
            return;
    }
}

static void report_changes(const struct list *old, const struct list *now)
{
    for (int i = 0; i < now->length; i++)
        if (!has(old, now->function[i])) {
            say_function("plugged ", now->function[i]);
            say(" ");
            say_hex(now->id[i] & 0xffff, 4);
            say(":");
            say_hex(now->id[i] >> 16, 4);
            say("\n");
        }
    for (int i = 0; i < old->length; i++)
        if (!has(now, old->function[i])) {
            say_function("gone ", old->function[i]);
            say("\n");
        }
}

static void answer_unplug_requests(u16 base, int refuse)
{
    static u32 told[SELECTORS]; /* a refused request stands for ever: say it once */
    for (u32 selector = 0; selector < SELECTORS; selector++) {
        out32(base + 16, selector);
        u32 slots = in32(base + 4);
        if (slots == NOTHING || slots == told[selector])
            continue;
        told[selector] = refuse ? slots : 0;
        if (!slots)
            continue;
        say("GUEST unplug requested slots ");
        say_hex(slots, 8);
        say(refuse ? " refused\n" : " ejected\n");
        if (!refuse)
            out32(base + 8, slots);
    }
}

static int wants_to_refuse(const struct multiboot_info *info)
{
    static const char word[] = "refuse";
    if (!(info->flags & 4))
        return 0;
    for (const char *at = (const char *)info->command_line; *at; at++) {
        int i = 0;
        while (word[i] && at[i] == word[i])
            i++;
        if (!word[i])
            return 1;
    }
    return 0;
}

/* A tick 20 times a second: the timer (PIT) through the first interrupt controller (PIC), and nothing else. */
static u64 gdt[] = {0, 0x00cf9a000000ffff, 0x00cf92000000ffff};
static u64 idt[TICK_VECTOR + 1];
static struct __attribute__((packed)) table {
    u16 limit;
    void *start;
} gdt_register = {sizeof gdt - 1, gdt}, idt_register = {sizeof idt - 1, idt};
void tick(void);

static void start_ticking(void)
{
    u32 handler = (u32)tick;
    idt[TICK_VECTOR] = (u64)(handler >> 16) << 48 | 0x8e0000080000 | (handler & 0xffff);
    __asm__ volatile("lgdt %0; ljmp $8, $1f; 1: mov $16, %%eax; mov %%eax, %%ds; mov %%eax, %%es; mov %%eax, %%ss;"
                     "lidt %1" ::"m"(gdt_register), "m"(idt_register)
                     : "eax", "memory");
    out8(0x20, 0x11); /* start, cascade, four words follow */
    out8(0x21, TICK_VECTOR);
    out8(0x21, 4);
    out8(0x21, 1);
    out8(0x21, 0xfe); /* the timer alone */
    out8(0xa1, 0xff);
    out8(0x43, 0x34);
    out8(0x40, TICK_DIVISOR & 0xff);
    out8(0x40, TICK_DIVISOR >> 8);
}

__attribute__((used)) void run(const struct multiboot_info *info)
{
    start_ticking();
    int refuse = wants_to_refuse(info);
    u16 base = (config(31 << 11, 0) & 0xffff) == 0x8086 ? HOTPLUG_Q35 : HOTPLUG_I440FX;

    say("GUEST up\n");
    for (int round = 0;; round = !round) {
        struct list *now = &lists[round];
        now->length = 0;
        for (u32 slot = 0; slot < BUSES << 16; slot += 1 << 11)
            scan_slot(now, slot);
        report_changes(&lists[!round], now);
        answer_unplug_requests(base, refuse);
        __asm__ volatile("sti; hlt; cli"); /* until the next tick: a guest that spins takes a whole processor */
    }
}

__asm__(".global _start\n"
        "_start: mov $stack_top, %esp\n"
        "push %ebx\n"
        "call run\n"
        "hlt\n"
        ".global tick\n"
        "tick: push %eax\n"
        "mov $0x20, %al\n"
        "out %al, $0x20\n"
        "pop %eax\n"
        "iret\n"
        ".bss\n"
        ".align 16\n"
        ".space 16384\n"
        "stack_top:\n"
        ".text\n");
