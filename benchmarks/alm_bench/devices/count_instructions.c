/* A plugin for QEMU's user-mode emulator that counts the instructions of the emulated program.
 *
 *     gcc -shared -fPIC -O2 -o libcount.so count_instructions.c
 *     qemu-aarch64 -plugin file=libcount.so,out=COUNT_FILE PROGRAM
 *
 * When the program makes the system call getpriority(PRIO_PROCESS, MARK), the count up to that call is written to
 * COUNT_FILE as 8 bytes, so that the program itself can read how far it has come. Counting adds once per block of
 * instructions and takes no lock: counts are right for a program that computes on one thread at a time.
 *
 * The declarations follow QEMU's documented plugin interface, version 1; no header of it is packaged.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

enum { GETPRIORITY_ON_ARM64 = 141, PRIO_PROCESS_IS = 0, MARK = 0xA1B0 };

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_info_t;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

typedef void (*on_block)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*on_call)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                        uint64_t, uint64_t, uint64_t);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, on_block);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum qemu_plugin_op, void *, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, on_call);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_outs(const char *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static uint64_t executed;
static int out = -1;

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &executed,
                                             qemu_plugin_tb_n_insns(block));
}

static void called(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    (void)id, (void)cpu, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number == GETPRIORITY_ON_ARM64 && a == PRIO_PROCESS_IS && b == MARK &&
        pwrite(out, &executed, sizeof executed, 0) != sizeof executed)
        qemu_plugin_outs("count_instructions: the count cannot be written\n");
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info,
                                                               int argc, char **argv) {
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0) {
        qemu_plugin_outs("count_instructions: expected one argument, out=FILE\n");
        return -1;
    }
    out = open(argv[0] + 4, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out < 0) {
        qemu_plugin_outs("count_instructions: the file for the count cannot be opened\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
