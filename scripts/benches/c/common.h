/* What the bench's C programs share: clocks, percentiles, SHA-1 and base64 (RFC 6455 §4.2.2), small helpers.
 *
 * Times are nanoseconds of CLOCK_MONOTONIC. The kernel stamps what arrives with CLOCK_REALTIME; stamps are moved over
 * by the difference of the two clocks, which is measured once a second.
 */
#ifndef TRUEDY_BENCH_COMMON_H
#define TRUEDY_BENCH_COMMON_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000LL
#define FRAME_NS (20 * MS)
#define FRAME 160 /* bytes of G.711 in 20 ms */

static inline int64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static inline int64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

/* CPU of this process, user and system [ns] */
static inline int64_t own_cpu_ns(void) { return clock_ns(CLOCK_PROCESS_CPUTIME_ID); }

/* --- samples --- */

struct samples {
    int64_t *at;
    size_t count, room;
};

static inline void sample(struct samples *s, int64_t value) {
    if (s->count == s->room) {
        s->room = s->room ? s->room * 2 : 4096;
        s->at = realloc(s->at, s->room * sizeof *s->at);
        if (!s->at) die("samples");
    }
    s->at[s->count++] = value;
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Prints "name":{"n":…,"p50":…,"p95":…,"p99":…,"max":…,"quantiles":[…]} in milliseconds, and sorts the samples. */
static inline void print_samples(const char *name, struct samples *s) {
    static const double shares[] = {0,   0.01, 0.02, 0.05, 0.1,  0.15, 0.2,  0.25, 0.3,  0.35,  0.4,  0.45,
                                    0.5, 0.55, 0.6,  0.65, 0.7,  0.75, 0.8,  0.85, 0.9,  0.925, 0.95, 0.97,
                                    0.98, 0.985, 0.99, 0.995, 0.999, 0.9995, 1};
    printf("\"%s\":{\"n\":%zu", name, s->count);
    if (s->count) {
        qsort(s->at, s->count, sizeof *s->at, by_value);
#define SHARE(q) (s->at[(size_t)((q) * (double)s->count) < s->count ? (size_t)((q) * (double)s->count) : s->count - 1] / 1e6)
        printf(",\"p50\":%.4f,\"p95\":%.4f,\"p99\":%.4f,\"max\":%.4f,\"quantiles\":[", SHARE(0.50), SHARE(0.95),
               SHARE(0.99), SHARE(1.0));
        for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
            printf("%s[%.4g,%.4f]", i ? "," : "", shares[i], SHARE(shares[i]));
        printf("]");
    }
    printf("}");
}

/* --- what the kernel says of arrivals --- */

static int64_t real_offset; /* CLOCK_REALTIME less CLOCK_MONOTONIC [ns] */

static inline int64_t measure_offset(void) {
    int64_t before = now_ns(), real = clock_ns(CLOCK_REALTIME), after = now_ns();
    return real - (before + after) / 2;
}

static uint32_t receive_drops; /* the highest SO_RXQ_OVFL of the last socket asked, 0 if none */

/* recv() that also tells when the kernel got the (last) bytes; `now` where it does not say */
static inline ssize_t receive(int fd, void *buffer, size_t size, int64_t *stamp) {
    char control[128];
    struct iovec part = {buffer, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT);
    if (got < 0) return got;
    *stamp = 0;
    receive_drops = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET) continue;
        if (c->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(c), sizeof t);
            *stamp = t.tv_sec * 1000000000LL + t.tv_nsec - real_offset;
        } else if (c->cmsg_type == SO_RXQ_OVFL) {
            memcpy(&receive_drops, CMSG_DATA(c), sizeof receive_drops);
        }
    }
    if (!*stamp) *stamp = now_ns();
    return got;
}

static inline void stamp_arrivals(int fd) {
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on);
}

/* --- base64 --- */

static const char BASE64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static int8_t from_base64[256];
static uint16_t to_base64[4096]; /* two characters for twelve bits */

static inline void base64_prepare(void) {
    memset(from_base64, -1, sizeof from_base64);
    for (int i = 0; i < 64; i++) from_base64[(uint8_t)BASE64[i]] = (int8_t)i;
    for (int i = 0; i < 4096; i++) {
        char two[2] = {BASE64[i >> 6], BASE64[i & 63]};
        memcpy(&to_base64[i], two, 2);
    }
}

static inline size_t base64_encode(char *out, const uint8_t *in, size_t length) {
    char *at = out;
    for (; length >= 3; length -= 3, in += 3, at += 4) {
        uint32_t v = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
        memcpy(at, &to_base64[v >> 12], 2);
        memcpy(at + 2, &to_base64[v & 4095], 2);
    }
    if (length) {
        uint32_t v = (uint32_t)in[0] << 16 | (length > 1 ? (uint32_t)in[1] << 8 : 0);
        at[0] = BASE64[v >> 18];
        at[1] = BASE64[v >> 12 & 63];
        at[2] = length > 1 ? BASE64[v >> 6 & 63] : '=';
        at[3] = '=';
        at += 4;
    }
    return (size_t)(at - out);
}

/* Up to `room` bytes out of `length` characters; stops at what is no base64. */
static inline size_t base64_decode(uint8_t *out, size_t room, const char *in, size_t length) {
    size_t made = 0;
    uint32_t v = 0;
    int bits = 0;
    for (size_t i = 0; i < length && made < room; i++) {
        int8_t six = from_base64[(uint8_t)in[i]];
        if (six < 0) break;
        v = v << 6 | (uint32_t)six;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[made++] = (uint8_t)(v >> bits);
        }
    }
    return made;
}

/* --- SHA-1, for one handshake a call --- */

static inline uint32_t rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

static inline void sha1(uint8_t digest[20], const uint8_t *data, size_t length) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    uint8_t block[128] = {0};
    size_t whole = length < 56 ? 64 : 128;
    if (length > 119) die("sha1: too long for this one");
    memcpy(block, data, length);
    block[length] = 0x80;
    for (int i = 0; i < 8; i++) block[whole - 1 - (size_t)i] = (uint8_t)((uint64_t)length * 8 >> (8 * i));
    for (size_t at = 0; at < whole; at += 64) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 16; i++) {
            const uint8_t *p = block + at + 4 * i;
            w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f, k;
            if (i < 20) f = (b & c) | (~b & d), k = 0x5A827999;
            else if (i < 40) f = b ^ c ^ d, k = 0x6ED9EBA1;
            else if (i < 60) f = (b & c) | (b & d) | (c & d), k = 0x8F1BBCDC;
            else f = b ^ c ^ d, k = 0xCA62C1D6;
            uint32_t t = rotate(a, 5) + f + e + k + w[i];
            e = d, d = c, c = rotate(b, 30), b = a, a = t;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 4; j++) digest[4 * i + j] = (uint8_t)(h[i] >> (24 - 8 * j));
}

/* Sec-WebSocket-Accept for a key (RFC 6455 §4.2.2); `out` takes 29 bytes */
static inline void websocket_accept(char out[29], const char *key, size_t length) {
    uint8_t joined[119], digest[20];
    if (length > 60) length = 60;
    memcpy(joined, key, length);
    memcpy(joined + length, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    sha1(digest, joined, length + 36);
    out[base64_encode(out, digest, 20)] = 0;
}

/* --- WebSocket frames (RFC 6455 §5.2) --- */

/* The header of a final frame of `length` bytes; `mask` NULL for a server's. Returns its size, 14 at most. */
static inline size_t frame_header(uint8_t *out, int opcode, size_t length, const uint8_t mask[4]) {
    size_t n = 2;
    out[0] = (uint8_t)(0x80 | opcode);
    if (length < 126) {
        out[1] = (uint8_t)length;
    } else if (length < 65536) {
        out[1] = 126, out[2] = (uint8_t)(length >> 8), out[3] = (uint8_t)length;
        n = 4;
    } else {
        out[1] = 127;
        for (int i = 0; i < 8; i++) out[2 + i] = (uint8_t)((uint64_t)length >> (56 - 8 * i));
        n = 10;
    }
    if (mask) {
        out[1] |= 0x80;
        memcpy(out + n, mask, 4);
        n += 4;
    }
    return n;
}

static inline void apply_mask(uint8_t *data, size_t length, const uint8_t mask[4]) {
    uint32_t word;
    uint64_t wide;
    memcpy(&word, mask, 4);
    wide = (uint64_t)word << 32 | word;
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
        uint64_t v;
        memcpy(&v, data + i, 8);
        v ^= wide;
        memcpy(data + i, &v, 8);
    }
    for (; i < length; i++) data[i] ^= mask[i & 3];
}

struct frame {
    int opcode, final;
    uint8_t *payload;
    size_t length;
};

/* The first frame in the buffer, unmasked in place; returns the bytes it takes, 0 while it is not whole. */
static inline size_t read_frame(uint8_t *data, size_t size, struct frame *frame) {
    if (size < 2) return 0;
    size_t n = 2, length = data[1] & 127;
    if (length == 126) {
        if (size < 4) return 0;
        length = (size_t)data[2] << 8 | data[3];
        n = 4;
    } else if (length == 127) {
        if (size < 10) return 0;
        length = 0;
        for (int i = 0; i < 8; i++) length = length << 8 | data[2 + i];
        n = 10;
    }
    const uint8_t *mask = data[1] & 0x80 ? data + n : NULL;
    if (mask) n += 4;
    if (length > (1u << 22)) return SIZE_MAX;
    if (size < n + length) return 0;
    if (mask) apply_mask(data + n, length, mask);
    frame->opcode = data[0] & 15;
    frame->final = data[0] >> 7;
    frame->payload = data + n;
    frame->length = length;
    return n + length;
}

/* --- sockets --- */

static inline int udp_socket(int buffer_bytes) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0) die("socket");
    if (bind(fd, (struct sockaddr *)&any, sizeof any)) die("bind");
    if (buffer_bytes && setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof buffer_bytes))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes);
    return fd;
}

static inline int port_of(int fd) {
    struct sockaddr_in a;
    socklen_t n = sizeof a;
    if (getsockname(fd, (struct sockaddr *)&a, &n)) die("getsockname");
    return ntohs(a.sin_port);
}

static inline struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static inline void watch(int epoll, int fd, uint64_t tag) {
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = tag};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl");
}

static inline void raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) die("getrlimit");
    limit.rlim_cur = limit.rlim_max < 65536 ? limit.rlim_max : 65536;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static inline void pin_to(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (core >= 0) sched_setaffinity(0, sizeof set, &set);
}

#endif
