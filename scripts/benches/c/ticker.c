/* An idle 20 ms ticker: how punctual this core lets anybody be. ticker CORE
 *
 * Runs at real-time priority where that is allowed, so that what it is late by is the machine's doing and not the
 * neighbour's on its core. A line on standard input ends a window: its lateness is printed and a new one begins.
 */
#include "common.h"
#include <poll.h>

int main(int argc, char **argv) {
    struct sched_param fifo = {.sched_priority = 10};
    struct samples late = {0};
    pin_to(argc > 1 ? atoi(argv[1]) : -1);
    int realtime = sched_setscheduler(0, SCHED_FIFO, &fifo) == 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("{\"realtime\":%s}\n", realtime ? "true" : "false");
    int64_t due = now_ns(), cpu = own_cpu_ns(), began = due;
    for (;;) {
        due += FRAME_NS;
        struct timespec at = {due / 1000000000LL, due % 1000000000LL};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {
        }
        sample(&late, now_ns() - due);
        struct pollfd asked = {.fd = 0, .events = POLLIN};
        if (poll(&asked, 1, 0) <= 0) continue;
        char line[64];
        if (read(0, line, sizeof line) <= 0) return 0;
        int64_t now = now_ns();
        printf("{");
        print_samples("late_ms", &late);
        printf(",\"cpu\":%.5f,\"realtime\":%s}\n", (double)(own_cpu_ns() - cpu) / (double)(now - began),
               realtime ? "true" : "false");
        late.count = 0;
        cpu = own_cpu_ns(), began = now, due = now;
    }
}
