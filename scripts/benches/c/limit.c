/* The limit: the same bridge by system calls alone. limit CORE AGENT-PORT
 *
 * Answers every INVITE at once, connects to the agent on 127.0.0.1 and joins RTP and Media Streams, each way as it comes.
 * It does what no bridge can do without: read a packet, code it in base64, frame and mask it, write it, and the same
 * back. No jitter buffer, no pacing, no concealment, no RTCP, no digits, no statistics, no records, no checks, one law.
 */
#include "common.h"

#define MOST 2048

enum { TAG_RTP = 1, TAG_AGENT, TAG_SIP, TAG_COMMANDS };

struct call {
    int used, rtp, ws, open, begun, have;
    char id[64], from[128], sid[40];
    struct sockaddr_in phone;
    uint16_t sequence;
    uint32_t timestamp, message;
    uint8_t in[16384];
};

static struct call *calls[MOST];
static int epoll_fd, sip_fd, agent_port;

static void header(char *out, size_t room, const char *message, const char *name) {
    char start[40];
    snprintf(start, sizeof start, "\r\n%s: ", name);
    const char *at = strstr(message, start);
    *out = 0;
    if (!at) return;
    at += strlen(start);
    size_t size = strcspn(at, "\r\n");
    if (size >= room) size = room - 1;
    memcpy(out, at, size);
    out[size] = 0;
}

static void write_text(struct call *c, char *text, size_t length) {
    static const uint8_t mask[4] = {0x3A, 0xC5, 0x91, 0x6E};
    uint8_t out[2048];
    size_t n = frame_header(out, 1, length, mask);
    if (n + length > sizeof out) return;
    memcpy(out + n, text, length);
    apply_mask(out + n, length, mask);
    if (send(c->ws, out, n + length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN) c->open = 0;
}

static void connect_agent(struct call *c, int index) {
    struct sockaddr_in to = loopback(agent_port);
    int on = 1;
    char request[256];
    c->ws = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(c->ws, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(c->ws, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->ws, F_SETFL, O_NONBLOCK);
    watch(epoll_fd, c->ws, (uint64_t)TAG_AGENT << 32 | (uint32_t)index);
    int size = snprintf(request, sizeof request,
                        "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                        agent_port);
    if (send(c->ws, request, (size_t)size, MSG_NOSIGNAL) < 0) die("send");
}

static void on_open(struct call *c) {
    char text[1024], caller[64] = "";
    char *plus = strstr(c->from, "sip:");
    if (plus) memcpy(caller, plus + 4, strcspn(plus + 4, "@>;") < 63 ? strcspn(plus + 4, "@>;") : 63);
    c->open = 1;
    write_text(c, text,
               (size_t)snprintf(text, sizeof text, "{\"event\":\"connected\",\"protocol\":\"Call\",\"version\":\"1.0.0\"}"));
    write_text(c, text,
               (size_t)snprintf(text, sizeof text,
                                "{\"event\":\"start\",\"sequenceNumber\":\"1\",\"streamSid\":\"%s\",\"start\":{"
                                "\"streamSid\":\"%s\",\"callSid\":\"%s\",\"tracks\":[\"inbound\"],\"customParameters\":{"
                                "\"from_number\":\"%s\"},\"mediaFormat\":{\"encoding\":\"audio/x-mulaw\","
                                "\"sampleRate\":8000,\"channels\":1}}}",
                                c->sid, c->sid, c->id, caller));
}

static struct call *open_call(const char *id, const char *message, int *index) {
    for (*index = 0; *index < MOST && calls[*index]; ++*index) {
    }
    if (*index == MOST) return NULL;
    struct call *c = calls[*index] = calloc(1, sizeof *c);
    if (!c) die("call");
    const char *audio = strstr(message, "m=audio ");
    snprintf(c->id, sizeof c->id, "%s", id);
    snprintf(c->sid, sizeof c->sid, "MZ%032d", *index);
    header(c->from, sizeof c->from, message, "From");
    c->phone = loopback(audio ? atoi(audio + 8) : 9);
    c->rtp = udp_socket(0);
    watch(epoll_fd, c->rtp, (uint64_t)TAG_RTP << 32 | (uint32_t)*index);
    connect_agent(c, *index);
    return c;
}

static void close_call(int index) {
    struct call *c = calls[index];
    close(c->rtp);
    close(c->ws);
    free(c);
    calls[index] = NULL;
}

static void answer(const char *message, const struct sockaddr_in *source, int status, const char *phrase, int rtp_port) {
    char via[512], from[256], to[256], id[128], cseq[64], sdp[256] = "", out[2048];
    header(via, sizeof via, message, "Via");
    header(from, sizeof from, message, "From");
    header(to, sizeof to, message, "To");
    header(id, sizeof id, message, "Call-ID");
    header(cseq, sizeof cseq, message, "CSeq");
    int length = rtp_port ? snprintf(sdp, sizeof sdp,
                                     "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
                                     "m=audio %d RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n",
                                     rtp_port)
                          : 0;
    int size = snprintf(out, sizeof out,
                        "SIP/2.0 %d %s\r\nVia: %s\r\nFrom: %s\r\nTo: %s%s\r\nCall-ID: %s\r\nCSeq: %s\r\n"
                        "Contact: <sip:limit@127.0.0.1:%d>\r\n%sContent-Length: %d\r\n\r\n%s",
                        status, phrase, via, from, to, strstr(to, ";tag=") ? "" : ";tag=limit", id, cseq, port_of(sip_fd),
                        length ? "Content-Type: application/sdp\r\n" : "", length, sdp);
    sendto(sip_fd, out, (size_t)size, 0, (const struct sockaddr *)source, sizeof *source);
}

static void on_sip(void) {
    char message[8192], id[64];
    struct sockaddr_in source;
    socklen_t room = sizeof source;
    ssize_t got;
    while ((got = recvfrom(sip_fd, message, sizeof message - 1, MSG_DONTWAIT, (struct sockaddr *)&source, &room)) > 0) {
        message[got] = 0;
        header(id, sizeof id, message, "Call-ID");
        int index = 0;
        while (index < MOST && !(calls[index] && !strcmp(calls[index]->id, id))) index++;
        if (!strncmp(message, "INVITE ", 7)) {
            struct call *c = index < MOST ? calls[index] : open_call(id, message, &index);
            answer(message, &source, 180, "Ringing", 0);
            answer(message, &source, c ? 200 : 503, c ? "OK" : "Full", c ? port_of(c->rtp) : 0);
        } else if (!strncmp(message, "BYE ", 4)) {
            answer(message, &source, 200, "OK", 0);
            if (index < MOST) close_call(index);
        }
    }
}

static void on_rtp(struct call *c) {
    uint8_t packet[2048];
    char text[2048];
    ssize_t got;
    while ((got = recv(c->rtp, packet, sizeof packet, MSG_DONTWAIT)) > 12) {
        if (!c->open || got > 1200) continue;
        c->message++;
        int size = snprintf(text, 300,
                            "{\"event\":\"media\",\"sequenceNumber\":\"%u\",\"streamSid\":\"%s\",\"media\":{\"track\":"
                            "\"inbound\",\"chunk\":\"%u\",\"timestamp\":\"%u\",\"payload\":\"",
                            c->message, c->sid, c->message, c->message * 20);
        size += (int)base64_encode(text + size, packet + 12, (size_t)got - 12);
        memcpy(text + size, "\"}}", 3);
        write_text(c, text, (size_t)size + 3);
    }
}

static void on_media(struct call *c, const char *text) {
    uint8_t packet[12 + 1024];
    const char *payload = strstr(text, "\"payload\":\""), *end;
    if (!payload || !(end = strchr(payload + 11, '"'))) return;
    size_t size = base64_decode(packet + 12, 1024, payload + 11, (size_t)(end - payload - 11));
    uint16_t sequence = htons(c->sequence++);
    uint32_t timestamp = htonl(c->timestamp), ssrc = htonl(7);
    packet[0] = 0x80, packet[1] = 0;
    memcpy(packet + 2, &sequence, 2);
    memcpy(packet + 4, &timestamp, 4);
    memcpy(packet + 8, &ssrc, 4);
    c->timestamp += (uint32_t)size;
    sendto(c->rtp, packet, 12 + size, 0, (struct sockaddr *)&c->phone, sizeof c->phone);
}

static void on_agent(struct call *c) {
    ssize_t got;
    while ((got = recv(c->ws, c->in + c->have, sizeof c->in - 1 - (size_t)c->have, MSG_DONTWAIT)) > 0) {
        c->have += (int)got;
        size_t at = 0, used;
        if (!c->open) {
            c->in[c->have] = 0;
            char *end = strstr((char *)c->in, "\r\n\r\n");
            if (!end) continue;
            at = (size_t)(end + 4 - (char *)c->in);
            on_open(c);
        }
        struct frame f;
        while ((used = read_frame(c->in + at, (size_t)c->have - at, &f)) > 0 && used != SIZE_MAX) {
            uint8_t kept = f.payload[f.length];
            f.payload[f.length] = 0;
            if (f.opcode == 1) on_media(c, (char *)f.payload);
            f.payload[f.length] = kept;
            at += used;
        }
        memmove(c->in, c->in + at, (size_t)c->have - at);
        c->have -= (int)at;
    }
    if (got == 0) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->ws, NULL);
}

int main(int argc, char **argv) {
    struct epoll_event events[512];
    if (argc < 3) return 2;
    pin_to(atoi(argv[1]));
    agent_port = atoi(argv[2]);
    raise_descriptor_limit();
    base64_prepare();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    sip_fd = udp_socket(4 << 20);
    watch(epoll_fd, sip_fd, (uint64_t)TAG_SIP << 32);
    watch(epoll_fd, 0, (uint64_t)TAG_COMMANDS << 32);
    printf("{\"port\":%d}\n", port_of(sip_fd));
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(epoll_fd, events, 512, -1);
        for (int i = 0; i < n; i++) {
            uint32_t index = (uint32_t)events[i].data.u64;
            char line[64];
            switch (events[i].data.u64 >> 32) {
            case TAG_RTP:
                if (calls[index]) on_rtp(calls[index]);
                break;
            case TAG_AGENT:
                if (calls[index]) on_agent(calls[index]);
                break;
            case TAG_SIP:
                on_sip();
                break;
            case TAG_COMMANDS:
                if (read(0, line, sizeof line) <= 0) return 0;
            }
        }
    }
}
