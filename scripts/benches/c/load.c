/* The bench's load: SIP caller, RTP generator and sink, and Media Streams agents, in one process and one loop.
 *
 * Commands come as lines on standard input; each is answered by one line of JSON when it is done.
 *
 *   edge PORT NUMBER            whom to call, on 127.0.0.1
 *   talk paced|burst|echo|none  what the agents say: 20 ms every 20 ms (60 ms ahead), half a second at once every second,
 *                               what they hear, nothing
 *   call COUNT RATE             place calls, so many a second, and keep them
 *   measure SECONDS TARGET_MS   what the held calls go through; TARGET_MS: what the jitter buffer aims at
 *   churn SECONDS RATE HOLD_S   place calls that end by themselves
 *   refuse SECONDS WINDOW       INVITEs to an unknown number, WINDOW of them unanswered at once
 *   hang                        end all calls
 *
 * The load keeps the time of an absolute clock, at real-time priority where that is allowed: slot n of 1 ms is due at
 * start + n ms, and a call sends in the slots that are its phase modulo 20, so that calls are as spread as if they had
 * begun at any time. Every frame is stamped with its direction, call and number, and filled by them; whoever gets it
 * compares all 160 bytes. The fill is loud for two seconds and nearly silent for half a second, as speech is: a jitter
 * buffer shrinks in pauses. What the edge sends is timed by the kernel, at its arrival, and looked at once a slot: a
 * packet to a process that sleeps on another core costs its sender the waking, as none does that leaves the machine.
 */
#include "common.h"

#include <signal.h>

#define MOST 2048
#define PHASES 20
#define RING 1024
#define PREBUFFER 3
#define BURST 25
#define BURST_EVERY 50
#define NEVER 255
#define SAMPLE_NS 125000LL
#define GUARD_NS MS /* an instant this close before a tick is not blamed for missing it */

enum { TAG_RTP = 1, TAG_AGENT, TAG_LISTENER, TAG_SIP, TAG_TIMER, TAG_COMMANDS };
enum { FREE, INVITED, UP, LEAVING };
enum { PACED, BURSTS, ECHO, MUTE };
enum { TO_AGENT, TO_PHONE };

/* What one end has heard, frame by frame. */
struct ear {
    uint8_t rest[2 * FRAME];
    int have, begun, rest_offset; /* where the rest began in its message [samples] */
    int64_t rest_stamp;
    uint32_t next;
};

struct said {
    int64_t at;
    int place; /* in its burst */
};

struct agent;

struct call {
    int state, fd, phase, churned, got_any;
    uint32_t serial;
    int64_t invited, ringing, answered, hang_at, again_at, again_after;
    char to[256], contact[256];
    struct sockaddr_in remote;
    uint16_t rtp_sequence;
    uint32_t rtp_timestamp, ssrc, frame, drops;
    int64_t sent[RING];
    struct ear ear;
    struct agent *agent;
    int64_t last_stamp;
    uint32_t first_timestamp;
    int timed;
};

struct agent {
    int fd, place, open, flowing, phase, beat, index;
    uint32_t frame, serial;
    uint8_t in[16384];
    size_t have;
    char *out;
    size_t out_size, out_room;
    char prefix[160];
    size_t prefix_size;
    struct said said[RING];
    struct ear ear;
};

struct heard {
    uint64_t verified, corrupted, missing, repeated, foreign_bytes, silent_frames;
};

struct trip {
    uint32_t serial, index, frame;
    int64_t sent, received, tick; /* tick: when the message came that it begins in */
    int place;
};

struct trips {
    struct trip *at;
    size_t count, room;
};

static struct call calls[MOST];
static struct agent *agents[MOST];
static uint8_t call_phase[MOST], agent_phase[MOST]; /* the slots in which they send; NEVER: in none */
static int call_top, agent_top;                     /* no index at or above these is in use */
static int epoll_fd, media_fd, sip_fd, listener_fd, timer_fd, sip_port;
static struct sockaddr_in edge;
static char number[64];
static int talk = PACED;
static uint32_t serial;
static int placed_now, up_now, inviting_now, leaving_now;
static int64_t start_ns;
static uint64_t slot;

/* --- what a window measures --- */

static struct {
    int64_t began, cpu, offset;
    struct heard heard[2];
    struct samples generator, interval, ring, answer, refused;
    struct trips trips[2], pacing;
    uint64_t statuses[700], lost_answers, ended_by_edge, blocked, again, placed, drops, refusals, rtp_sent, rtp_received, strangers;
    double offset_step_ms;
    int highest;
} window;

static void add_trip(struct trips *t, struct trip one) {
    if (t->count == t->room) {
        t->room = t->room ? t->room * 2 : 4096;
        t->at = realloc(t->at, t->room * sizeof *t->at);
        if (!t->at) die("trips");
    }
    t->at[t->count++] = one;
}

static void begin_window(void) {
    struct samples *samples[] = {&window.generator, &window.interval, &window.ring, &window.answer, &window.refused};
    struct trips *trips[] = {&window.trips[0], &window.trips[1], &window.pacing};
    struct samples kept_samples[5];
    struct trips kept_trips[3];
    for (int i = 0; i < 5; i++) kept_samples[i] = *samples[i], kept_samples[i].count = 0;
    for (int i = 0; i < 3; i++) kept_trips[i] = *trips[i], kept_trips[i].count = 0;
    memset(&window, 0, sizeof window);
    for (int i = 0; i < 5; i++) *samples[i] = kept_samples[i];
    for (int i = 0; i < 3; i++) *trips[i] = kept_trips[i];
    window.began = now_ns();
    window.cpu = own_cpu_ns();
    window.offset = real_offset;
    window.highest = up_now;
    for (int i = 0; i < MOST; i++) calls[i].timed = 0;
}

/* --- stamped audio --- */

/* Negative and positive codes of hardly any level; the stamp itself has positive ones only, so it cannot look like this */
static const uint8_t MAGIC[4] = {0x71, 0xF3, 0x74, 0xF6};
static uint8_t loud[256][FRAME], quiet[256][FRAME], silence[FRAME];

static void prepare_frames(void) {
    uint32_t x = 2463534242u;
    for (int i = 0; i < 256; i++)
        for (int j = 0; j < FRAME; j++) {
            x ^= x << 13, x ^= x >> 17, x ^= x << 5;
            loud[i][j] = (uint8_t)((x >> 8 & 0x80) | (0x10 + (x & 0x1F)));
            quiet[i][j] = (uint8_t)(0xF0 | (x >> 3 & 0x0F));
        }
    memset(silence, 0xFF, FRAME);
}

static const uint8_t *fill_of(uint32_t serial_, uint32_t frame) {
    uint32_t which = (frame * 7 + serial_) & 255;
    return frame % 125 < 100 ? loud[which] : quiet[which];
}

static void make_frame(uint8_t *out, int direction, uint32_t serial_, uint32_t frame) {
    memcpy(out, fill_of(serial_, frame), FRAME);
    memcpy(out, MAGIC, 4);
    out[4] = (uint8_t)(0xF0 | direction);
    for (int i = 0; i < 3; i++) out[5 + i] = (uint8_t)(0xF0 | (serial_ >> (4 * i) & 15));
    for (int i = 0; i < 6; i++) out[8 + i] = (uint8_t)(0xF0 | (frame >> (4 * i) & 15));
}

/* 1: a frame of that call, whole; 0: none; -1: its stamp is right and its fill is not */
static int read_stamp(const uint8_t *in, int direction, uint32_t serial_, uint32_t *frame) {
    uint32_t f = 0;
    if (in[4] != (0xF0 | direction)) return 0;
    for (int i = 0; i < 3; i++)
        if (in[5 + i] != (0xF0 | (serial_ >> (4 * i) & 15))) return 0;
    for (int i = 0; i < 6; i++) {
        if (in[8 + i] < 0xF0) return 0;
        f |= (uint32_t)(in[8 + i] & 15) << (4 * i);
    }
    *frame = f;
    return memcmp(in + 14, fill_of(serial_, f) + 14, FRAME - 14) ? -1 : 1;
}

/* Count frame `f`; whether it is new. */
static int count_frame(struct ear *ear, struct heard *heard, uint32_t f, int whole) {
    if (!ear->begun) ear->begun = 1, ear->next = f;
    if (f < ear->next) {
        heard->repeated++;
        return 0;
    }
    heard->missing += f - ear->next;
    ear->next = f + 1;
    if (whole > 0) heard->verified++;
    else heard->corrupted++;
    return whole > 0;
}

/* `stamp`: when the message came that has the frame's first sample, `offset` samples from its beginning */
typedef void on_frame(void *whose, uint32_t frame, int64_t stamp, int offset);

static void hear(struct ear *ear, struct heard *heard, int direction, uint32_t serial_, const uint8_t *in, size_t size,
                 int64_t stamp, on_frame *told, void *whose) {
    uint32_t f;
    int whole;
    if (!ear->have && size == FRAME && !memcmp(in, MAGIC, 4) && (whole = read_stamp(in, direction, serial_, &f))) {
        if (count_frame(ear, heard, f, whole)) told(whose, f, stamp, 0);
        return;
    }
    if (size == FRAME && !memcmp(in, silence, FRAME)) {
        heard->silent_frames += ear->begun;
        heard->foreign_bytes += (uint64_t)ear->have;
        ear->have = 0;
        return;
    }
    /* cut anew: look for stamps in the stream */
    int consumed = 0;
    while (size) {
        int old = ear->have;
        size_t part = sizeof ear->rest - (size_t)ear->have;
        if (part > size) part = size;
        memcpy(ear->rest + ear->have, in, part);
        ear->have += (int)part, in += part, size -= part;
        int at = 0;
        while (ear->have - at >= 4) {
            if (memcmp(ear->rest + at, MAGIC, 4)) {
                heard->foreign_bytes += ear->begun && ear->rest[at] != 0xFF;
                at++;
                continue;
            }
            if (ear->have - at < FRAME) break;
            whole = read_stamp(ear->rest + at, direction, serial_, &f);
            if (!whole) {
                at += 4;
                continue;
            }
            if (count_frame(ear, heard, f, whole)) {
                if (at < old) told(whose, f, ear->rest_stamp, ear->rest_offset + at);
                else told(whose, f, stamp, consumed + at - old);
            }
            at += FRAME;
        }
        if (at >= old) ear->rest_stamp = stamp, ear->rest_offset = consumed + at - old;
        else ear->rest_offset += at;
        consumed += (int)part;
        memmove(ear->rest, ear->rest + at, (size_t)(ear->have - at));
        ear->have -= at;
    }
}

/* --- SIP --- */

static void send_sip(const char *format, ...) {
    char text[2048];
    va_list given;
    va_start(given, format);
    int size = vsnprintf(text, sizeof text, format, given);
    va_end(given);
    if (sendto(sip_fd, text, (size_t)size, 0, (struct sockaddr *)&edge, sizeof edge) < 0) window.blocked++;
}

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

static void send_invite(struct call *c) {
    char sdp[256];
    int index = (int)(c - calls), port = port_of(c->fd);
    int size = snprintf(sdp, sizeof sdp,
                        "v=0\r\no=- %u 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
                        "m=audio %d RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\n",
                        c->serial, port);
    send_sip("INVITE sip:%s@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:%d;branch=z9hG4bKi%u\r\n"
             "Max-Forwards: 70\r\nFrom: <sip:+1415555%04d@127.0.0.1>;tag=f%u\r\nTo: <sip:%s@127.0.0.1>\r\n"
             "Call-ID: b%u.%d\r\nCSeq: 1 INVITE\r\nContact: <sip:bench@127.0.0.1:%d>\r\n"
             "Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s",
             number, sip_port, c->serial, index, c->serial, number, c->serial, index, sip_port, size, sdp);
}

static void send_in_dialog(struct call *c, const char *method, int cseq) {
    int index = (int)(c - calls);
    send_sip("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:%d;branch=z9hG4bK%s%u\r\nMax-Forwards: 70\r\n"
             "From: <sip:+1415555%04d@127.0.0.1>;tag=f%u\r\nTo: %s\r\nCall-ID: b%u.%d\r\nCSeq: %d %s\r\n"
             "Content-Length: 0\r\n\r\n",
             method, c->contact, sip_port, method, c->serial, index, c->serial, c->to, c->serial, index, cseq, method);
}

static void free_call(struct call *c) {
    if (c->state == INVITED) inviting_now--;
    if (c->state == UP) up_now--;
    if (c->state == LEAVING) leaving_now--;
    placed_now--;
    close(c->fd);
    if (c->agent) c->agent->index = -1;
    c->agent = NULL;
    c->state = FREE;
    call_phase[c - calls] = NEVER;
}

static struct call *place_call(int churned, int64_t hold_ns) {
    struct call *c = calls;
    while (c < calls + MOST && c->state != FREE) c++;
    if (c == calls + MOST) return NULL;
    int index = (int)(c - calls);
    if (index >= call_top) call_top = index + 1;
    memset(c, 0, sizeof *c);
    c->fd = udp_socket(1 << 19);
    stamp_arrivals(c->fd);
    watch(media_fd, c->fd, (uint64_t)TAG_RTP << 32 | (uint32_t)index);
    c->serial = ++serial;
    c->phase = (int)(c->serial * 7 % PHASES);
    c->state = INVITED;
    c->churned = churned;
    c->hang_at = hold_ns;
    c->ssrc = 0x10000000u + c->serial;
    c->rtp_timestamp = c->serial * 7919u;
    c->rtp_sequence = (uint16_t)c->serial;
    c->invited = now_ns();
    c->again_after = 500 * MS;
    c->again_at = c->invited + c->again_after;
    placed_now++, inviting_now++, window.placed++;
    send_invite(c);
    return c;
}

static void hang_up(struct call *c) {
    up_now--, leaving_now++;
    c->state = LEAVING;
    call_phase[c - calls] = NEVER;
    c->again_after = 500 * MS;
    c->again_at = now_ns() + c->again_after;
    send_in_dialog(c, "BYE", 2);
}

static void answered(struct call *c, const char *message, int64_t stamp) {
    char contact[256];
    header(c->to, sizeof c->to, message, "To");
    header(contact, sizeof contact, message, "Contact");
    char *open = strchr(contact, '<'), *close_ = strchr(contact, '>');
    if (open && close_) *close_ = 0;
    snprintf(c->contact, sizeof c->contact, "%s", open ? open + 1 : contact);
    const char *audio = strstr(message, "m=audio ");
    c->remote = loopback(audio ? atoi(audio + 8) : 9);
    c->answered = stamp;
    sample(&window.answer, stamp - c->invited);
    inviting_now--, up_now++;
    if (up_now > window.highest) window.highest = up_now;
    c->state = UP;
    call_phase[c - calls] = (uint8_t)c->phase;
    c->hang_at += c->churned ? stamp : 0;
    send_in_dialog(c, "ACK", 1);
}

static void on_response(struct call *c, int status, const char *message, int64_t stamp) {
    char cseq[64];
    header(cseq, sizeof cseq, message, "CSeq");
    if (strstr(cseq, "BYE")) {
        if (c->state == LEAVING && status >= 200) free_call(c);
        return;
    }
    c->got_any = 1;
    if (c->state == INVITED && status == 180 && !c->ringing) {
        c->ringing = stamp;
        sample(&window.ring, stamp - c->invited);
    } else if (c->state == INVITED && status >= 200 && status < 300) {
        answered(c, message, stamp);
    } else if (c->state == UP && status >= 200 && status < 300) {
        send_in_dialog(c, "ACK", 1);
    } else if (status >= 300) {
        char to[256];
        int index = (int)(c - calls);
        header(to, sizeof to, message, "To");
        send_sip("ACK sip:%s@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:%d;branch=z9hG4bKi%u\r\n"
                 "Max-Forwards: 70\r\nFrom: <sip:+1415555%04d@127.0.0.1>;tag=f%u\r\nTo: %s\r\nCall-ID: b%u.%d\r\n"
                 "CSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
                 number, sip_port, c->serial, index, c->serial, to, c->serial, index);
        if (c->state == INVITED) {
            window.statuses[status < 700 ? status : 699]++;
            free_call(c);
        }
    }
}

/* A request of the edge's: BYE ends the call, everything gets its 200. */
static void on_request(struct call *c, const char *message) {
    char via[512], from[256], to[256], id[128], cseq[64];
    header(via, sizeof via, message, "Via");
    header(from, sizeof from, message, "From");
    header(to, sizeof to, message, "To");
    header(id, sizeof id, message, "Call-ID");
    header(cseq, sizeof cseq, message, "CSeq");
    send_sip("SIP/2.0 200 OK\r\nVia: %s\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %s\r\nContent-Length: 0\r\n\r\n",
             via, from, to, id, cseq);
    if (c && !strncmp(message, "BYE ", 4) && c->state != FREE && c->state != LEAVING) {
        window.ended_by_edge++;
        free_call(c);
    }
}

static int64_t refused_at[4096];
static uint32_t refused_next;
static int refused_open;

static void send_unknown(void) {
    uint32_t n = refused_next++;
    refused_at[n & 4095] = now_ns();
    refused_open++;
    send_sip("INVITE sip:+15559999999@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:%d;branch=z9hG4bKr%u\r\n"
             "Max-Forwards: 70\r\nFrom: <sip:+1415555%04u@127.0.0.1>;tag=r%u\r\nTo: <sip:+15559999999@127.0.0.1>\r\n"
             "Call-ID: r%u\r\nCSeq: 1 INVITE\r\nContact: <sip:bench@127.0.0.1:%d>\r\n"
             "Content-Type: application/sdp\r\nContent-Length: 122\r\n\r\n"
             "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
             "m=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n",
             sip_port, n, n % 10000, n, n, sip_port);
}

static void on_refusal(uint32_t n, int status, const char *message, int64_t stamp) {
    char to[256];
    if (status < 200) return;
    header(to, sizeof to, message, "To");
    send_sip("ACK sip:+15559999999@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:%d;branch=z9hG4bKr%u\r\n"
             "Max-Forwards: 70\r\nFrom: <sip:+1415555%04u@127.0.0.1>;tag=r%u\r\nTo: %s\r\nCall-ID: r%u\r\n"
             "CSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
             sip_port, n, n % 10000, n, to, n);
    int64_t *at = &refused_at[n & 4095];
    if (!*at) return; /* repeated */
    sample(&window.refused, stamp - *at);
    *at = 0;
    refused_open--;
    if (status == 404) window.refusals++;
    else window.statuses[status < 700 ? status : 699]++;
}

static void on_sip(void) {
    char message[8192], id[64];
    ssize_t got;
    int64_t stamp;
    while ((got = receive(sip_fd, message, sizeof message - 1, &stamp)) > 0) {
        unsigned n = 0, index = MOST;
        message[got] = 0;
        header(id, sizeof id, message, "Call-ID");
        int response = !strncmp(message, "SIP/2.0 ", 8), status = response ? atoi(message + 8) : 0;
        if (*id == 'r') {
            if (response) on_refusal((uint32_t)strtoul(id + 1, NULL, 10), status, message, stamp);
            continue;
        }
        struct call *c = NULL;
        if (sscanf(id, "b%u.%u", &n, &index) == 2 && index < MOST && calls[index].serial == n) c = &calls[index];
        if (!response) on_request(c, message);
        else if (c && c->state != FREE) on_response(c, status, message, stamp);
    }
}

static void repeat_requests(int64_t now) {
    for (int i = 0; i < call_top; i++) {
        struct call *c = &calls[i];
        if (c->state != INVITED && c->state != LEAVING) continue;
        if (c->state == INVITED && now - c->invited > 20000 * MS) {
            window.lost_answers++;
            free_call(c);
        } else if (now >= c->again_at && c->again_after > 8000 * MS) {
            window.lost_answers++;
            free_call(c);
        } else if (now >= c->again_at && !(c->state == INVITED && c->got_any)) {
            window.again++;
            c->again_after *= 2;
            c->again_at = now + c->again_after;
            if (c->state == INVITED) send_invite(c);
            else send_in_dialog(c, "BYE", 2);
        }
    }
}

/* --- RTP --- */

static void send_rtp(struct call *c) {
    uint8_t packet[12 + FRAME];
    uint32_t timestamp = htonl(c->rtp_timestamp), ssrc = htonl(c->ssrc);
    uint16_t sequence = htons(c->rtp_sequence);
    packet[0] = 0x80;
    packet[1] = c->frame ? 0 : 0x80;
    memcpy(packet + 2, &sequence, 2);
    memcpy(packet + 4, &timestamp, 4);
    memcpy(packet + 8, &ssrc, 4);
    make_frame(packet + 12, TO_AGENT, c->serial, c->frame);
    c->sent[c->frame % RING] = now_ns();
    if (sendto(c->fd, packet, sizeof packet, 0, (struct sockaddr *)&c->remote, sizeof c->remote) < 0) window.blocked++;
    else window.rtp_sent++;
    c->frame++, c->rtp_sequence++;
    c->rtp_timestamp += FRAME;
}

static void heard_at_phone(void *whose, uint32_t frame, int64_t stamp, int offset) {
    struct call *c = whose;
    if (!c->agent || talk == ECHO) return;
    struct said said = c->agent->said[frame % RING];
    struct trip trip = {c->serial, (uint32_t)(c - calls), frame, said.at, stamp + offset * SAMPLE_NS, stamp, said.place};
    if (said.at) add_trip(&window.trips[TO_PHONE], trip);
}

static void heard_echo(void *whose, uint32_t frame, int64_t stamp, int offset) {
    struct call *c = whose;
    struct trip trip = {c->serial, (uint32_t)(c - calls), frame, c->sent[frame % RING], stamp + offset * SAMPLE_NS, stamp, 0};
    add_trip(&window.trips[TO_PHONE], trip);
}

static void time_packet(struct call *c, uint32_t timestamp, int64_t stamp) {
    if (!c->timed) {
        c->timed = 1;
        c->first_timestamp = timestamp;
    } else {
        sample(&window.interval, stamp - c->last_stamp);
    }
    int64_t place = stamp - (int64_t)(int32_t)(timestamp - c->first_timestamp) * (MS / 8);
    struct trip at = {c->serial, (uint32_t)(c - calls), 0, 0, place, place, 0};
    add_trip(&window.pacing, at);
    c->last_stamp = stamp;
}

static void on_rtp(struct call *c) {
    uint8_t packet[2048];
    ssize_t got;
    int64_t stamp;
    while ((got = receive(c->fd, packet, sizeof packet, &stamp)) > 0) {
        uint32_t timestamp;
        if (receive_drops > c->drops) window.drops += receive_drops - c->drops, c->drops = receive_drops;
        if (got < 12 || (packet[1] & 127) || c->state != UP) continue;
        memcpy(&timestamp, packet + 4, 4);
        window.rtp_received++;
        time_packet(c, ntohl(timestamp), stamp);
        if (talk == ECHO)
            hear(&c->ear, &window.heard[TO_PHONE], TO_AGENT, c->serial, packet + 12, (size_t)got - 12, stamp, heard_echo, c);
        else
            hear(&c->ear, &window.heard[TO_PHONE], TO_PHONE, c->serial, packet + 12, (size_t)got - 12, stamp,
                 heard_at_phone, c);
    }
}

/* --- agents: a WebSocket server that speaks Media Streams --- */

static void hear_at_slots(struct agent *a) {
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, a->fd, NULL);
    watch(media_fd, a->fd, (uint64_t)TAG_AGENT << 32 | (uint32_t)a->place);
}

static void close_agent(struct agent *a) {
    agents[a->place] = NULL;
    agent_phase[a->place] = NEVER;
    if (a->index >= 0 && calls[a->index].agent == a) calls[a->index].agent = NULL;
    close(a->fd);
    free(a->out);
    free(a);
}

static void flush_agent(struct agent *a) {
    ssize_t sent = send(a->fd, a->out, a->out_size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent <= 0) return;
    memmove(a->out, a->out + sent, a->out_size - (size_t)sent);
    a->out_size -= (size_t)sent;
}

static void write_agent(struct agent *a, const void *data, size_t size) {
    if (a->out_size) flush_agent(a);
    ssize_t sent = a->out_size ? 0 : send(a->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) sent = 0;
    if ((size_t)sent == size) return;
    window.blocked++;
    size -= (size_t)sent;
    if (a->out_size + size > 1 << 20) return;
    if (a->out_size + size > a->out_room) {
        a->out_room = (a->out_size + size) * 2;
        a->out = realloc(a->out, a->out_room);
        if (!a->out) die("agent");
    }
    memcpy(a->out + a->out_size, (const char *)data + sent, size);
    a->out_size += size;
}

static size_t media_message(struct agent *a, uint8_t *out, const char *payload, size_t size) {
    size_t length = a->prefix_size + size + 3, n = frame_header(out, 1, length, NULL);
    memcpy(out + n, a->prefix, a->prefix_size);
    memcpy(out + n + a->prefix_size, payload, size);
    memcpy(out + n + a->prefix_size + size, "\"}}", 3);
    return n + length;
}

static size_t say_frame(struct agent *a, uint8_t *out, int place, int64_t now) {
    uint8_t audio[FRAME];
    char payload[224];
    make_frame(audio, TO_PHONE, a->serial, a->frame);
    a->said[a->frame % RING] = (struct said){now, place};
    a->frame++;
    return media_message(a, out, payload, base64_encode(payload, audio, FRAME));
}

static void say(struct agent *a, int count) {
    uint8_t out[BURST * 512];
    size_t size = 0;
    int64_t now = now_ns();
    for (int i = 0; i < count; i++) size += say_frame(a, out + size, i, now);
    write_agent(a, out, size);
}

static void agent_speaks(struct agent *a) {
    if (talk == PACED) say(a, a->beat == 0 ? 1 + PREBUFFER : 1);
    else if (talk == BURSTS && a->beat % BURST_EVERY == 0) say(a, BURST);
    a->beat++;
}

static void heard_at_agent(void *whose, uint32_t frame, int64_t stamp, int offset) {
    struct agent *a = whose;
    struct call *c = &calls[a->index];
    struct trip trip = {a->serial, (uint32_t)a->index, frame, c->sent[frame % RING], stamp + offset * SAMPLE_NS, stamp, 0};
    if (c->serial == a->serial) add_trip(&window.trips[TO_AGENT], trip);
}

static void on_media(struct agent *a, const char *text, int64_t stamp) {
    uint8_t audio[1024];
    const char *payload = strstr(text, "\"payload\":\"");
    if (!payload) return;
    if (a->index < 0) { /* of no call: a client of the WebSocket bench */
        window.strangers++;
        if (!a->flowing) {
            a->flowing = 1;
            agent_phase[a->place] = (uint8_t)(a->place % PHASES);
            hear_at_slots(a);
        }
        return;
    }
    payload += 11;
    const char *end = strchr(payload, '"');
    if (!end) return;
    size_t size = base64_decode(audio, sizeof audio, payload, (size_t)(end - payload));
    hear(&a->ear, &window.heard[TO_AGENT], TO_AGENT, a->serial, audio, size, stamp, heard_at_agent, a);
    if (!a->flowing) {
        a->flowing = 1;
        agent_phase[a->place] = (uint8_t)a->phase;
    }
    if (talk == ECHO) {
        uint8_t out[2048];
        if (end - payload < 1800) write_agent(a, out, media_message(a, out, payload, (size_t)(end - payload)));
    }
}

static void on_start(struct agent *a, const char *text) {
    const char *sid = strstr(text, "\"streamSid\":\""), *from = strstr(text, "\"from_number\":\"+1415555");
    char name[64] = "";
    if (sid) {
        sid += 13;
        size_t size = strcspn(sid, "\"");
        if (size < sizeof name) memcpy(name, sid, size), name[size] = 0;
    }
    a->prefix_size = (size_t)snprintf(a->prefix, sizeof a->prefix,
                                      "{\"event\":\"media\",\"streamSid\":\"%s\",\"media\":{\"payload\":\"", name);
    int index = from ? atoi(from + 23) : -1;
    if (index < 0 || index >= MOST || calls[index].state == FREE) return;
    a->index = index;
    a->serial = calls[index].serial;
    a->phase = (calls[index].phase * 3 + 7 + (int)(a->serial / PHASES)) % PHASES;
    calls[index].agent = a;
    hear_at_slots(a);
}

static int on_frame_of(struct agent *a, struct frame *f, int64_t stamp) {
    if (f->opcode == 8) {
        uint8_t out[16];
        size_t n = frame_header(out, 8, f->length >= 2 ? 2 : 0, NULL);
        if (f->length >= 2) memcpy(out + n, f->payload, 2), n += 2;
        write_agent(a, out, n);
        return -1;
    }
    if (f->opcode == 9) {
        uint8_t out[160];
        size_t n = frame_header(out, 10, f->length, NULL);
        memcpy(out + n, f->payload, f->length < 126 ? f->length : 0);
        write_agent(a, out, n + f->length);
    } else if (f->opcode == 1 && f->length > 20) {
        uint8_t kept = f->payload[f->length]; /* of the next frame, or room that is kept for it */
        f->payload[f->length] = 0;
        if (!memcmp(f->payload, "{\"event\":\"media\"", 16)) on_media(a, (char *)f->payload, stamp);
        else if (!memcmp(f->payload, "{\"event\":\"start\"", 16)) on_start(a, (char *)f->payload);
        f->payload[f->length] = kept;
    }
    return 0;
}

static int handshake(struct agent *a) {
    char key[128], accept_key[29], out[256];
    a->in[a->have] = 0;
    if (!strstr((char *)a->in, "\r\n\r\n")) return 0;
    header(key, sizeof key, (char *)a->in, "Sec-WebSocket-Key");
    if (!*key) header(key, sizeof key, (char *)a->in, "sec-websocket-key");
    websocket_accept(accept_key, key, strlen(key));
    int size = snprintf(out, sizeof out,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Accept: %s\r\n\r\n",
                        accept_key);
    write_agent(a, out, (size_t)size);
    a->open = 1;
    a->have = 0; /* a client waits for the answer */
    return 0;
}

static int read_agent(struct agent *a) {
    int64_t stamp;
    ssize_t got = receive(a->fd, a->in + a->have, sizeof a->in - 1 - a->have, &stamp);
    if (got <= 0) return got < 0 && errno == EAGAIN ? 0 : -1;
    a->have += (size_t)got;
    if (!a->open) return handshake(a);
    struct frame f;
    size_t at = 0, used;
    while ((used = read_frame(a->in + at, a->have - at, &f)) > 0) {
        if (used == SIZE_MAX || on_frame_of(a, &f, stamp)) return -1;
        at += used;
    }
    memmove(a->in, a->in + at, a->have - at);
    a->have -= at;
    return a->have >= sizeof a->in - 1 ? -1 : 0;
}

static void accept_agents(void) {
    int fd, on = 1;
    while ((fd = accept4(listener_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        int place = 0;
        while (place < MOST && agents[place]) place++;
        struct agent *a = place < MOST ? calloc(1, sizeof *a) : NULL;
        if (!a) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        stamp_arrivals(fd);
        a->fd = fd;
        a->index = -1;
        a->place = place;
        agents[place] = a;
        if (place >= agent_top) agent_top = place + 1;
        watch(epoll_fd, fd, (uint64_t)TAG_AGENT << 32 | (uint32_t)place);
    }
}

/* --- what a window says --- */

static int64_t next_on_grid(int64_t anchor, int64_t from) {
    int64_t behind = (from - anchor) % FRAME_NS;
    if (behind < 0) behind += FRAME_NS;
    return behind == 0 ? from : from + FRAME_NS - behind;
}

static void print_trips(const char *name, const char *added_name, struct trips *trips, int64_t *anchor, int64_t least) {
    struct samples whole = {0}, added = {0};
    for (size_t i = 0; i < trips->count; i++) {
        struct trip *t = &trips->at[i];
        sample(&whole, t->received - t->sent - t->place * FRAME_NS);
        if (!anchor || anchor[t->index] == INT64_MAX) continue;
        int64_t due = next_on_grid(anchor[t->index], t->sent + least);
        if (due - t->sent - least < GUARD_NS) due += FRAME_NS;
        int64_t beyond = t->received - due - t->place * FRAME_NS;
        sample(&added, beyond > 0 ? beyond : 0);
    }
    printf(",");
    print_samples(name, &whole);
    if (anchor) {
        printf(",");
        print_samples(added_name, &added);
    }
    free(whole.at);
    free(added.at);
}

static void print_heard(const char *name, struct heard *h) {
    printf(",\"%s\":{\"verified\":%lu,\"corrupted\":%lu,\"missing\":%lu,\"repeated\":%lu,\"foreign_bytes\":%lu,"
           "\"silent_frames\":%lu}",
           name, h->verified, h->corrupted, h->missing, h->repeated, h->foreign_bytes, h->silent_frames);
}

static int64_t place_of(const struct trip *t) { return t->tick - t->frame * FRAME_NS; }

static int by_call_and_place(const void *a, const void *b) {
    const struct trip *x = a, *y = b;
    if (x->index != y->index) return x->index < y->index ? -1 : 1;
    int64_t p = place_of(x), q = place_of(y);
    return (p > q) - (p < q);
}

/* Each call's ideal grid of 20 ms: by the earliest hundredth of its arrivals, taken back by their numbers. */
static int64_t *anchors_of(struct trips *trips, struct samples *late) {
    int64_t *anchors = malloc(MOST * sizeof *anchors);
    struct trip *sorted = malloc((trips->count + 1) * sizeof *sorted);
    if (!anchors || !sorted) die("anchors");
    for (int i = 0; i < MOST; i++) anchors[i] = INT64_MAX;
    if (trips->count) memcpy(sorted, trips->at, trips->count * sizeof *sorted);
    qsort(sorted, trips->count, sizeof *sorted, by_call_and_place);
    for (size_t from = 0, to; from < trips->count; from = to) {
        for (to = from; to < trips->count && sorted[to].index == sorted[from].index; to++) {
        }
        int64_t anchor = anchors[sorted[from].index] = place_of(&sorted[from + (to - from) / 100]);
        for (size_t i = from; i < to; i++) {
            int64_t behind = place_of(&sorted[i]) - anchor;
            sample(late, behind > 0 ? behind : 0);
        }
    }
    free(sorted);
    return anchors;
}

static void print_way(const char *late_name, const char *name, const char *added_name, struct trips *paced,
                      struct trips *trips, int added, double target_ms) {
    struct samples late = {0};
    int64_t *anchors = anchors_of(paced, &late);
    printf(",");
    print_samples(late_name, &late);
    print_trips(name, added_name, trips, added ? anchors : NULL, (int64_t)(target_ms * 1e6));
    free(late.at);
    free(anchors);
}

static void print_window(double target_ms, int64_t now, int64_t cpu) {
    double seconds = (double)(now - window.began) / 1e9;
    printf("{\"seconds\":%.3f,\"cpu\":%.4f,\"calls\":%d,\"highest\":%d,\"placed\":%lu", seconds,
           (double)(cpu - window.cpu) / 1e9 / seconds, up_now, window.highest, window.placed);
    print_heard("to_agent", &window.heard[TO_AGENT]);
    print_heard("to_phone", &window.heard[TO_PHONE]);
    printf(",");
    print_samples("generator_late_ms", &window.generator);
    printf(",");
    print_samples("interval_ms", &window.interval);
    printf(",");
    print_samples("ring_ms", &window.ring);
    printf(",");
    print_samples("answer_ms", &window.answer);
    printf(",");
    print_samples("refused_ms", &window.refused);
    print_way("pacing_late_ms", "to_phone_ms", "to_phone_added_ms", &window.pacing, &window.trips[TO_PHONE], talk == BURSTS, 0);
    print_way("agent_late_ms", "to_agent_ms", "to_agent_added_ms", &window.trips[TO_AGENT], &window.trips[TO_AGENT], 1,
              target_ms);
    printf(",\"rtp_sent\":%lu,\"rtp_received\":%lu,\"refusals\":%lu,\"drops\":%lu,\"blocked\":%lu,\"again\":%lu,"
           "\"strangers\":%lu,\"clock_step_ms\":%.4f,\"failures\":{",
           window.rtp_sent, window.rtp_received, window.refusals, window.drops, window.blocked, window.again,
           window.strangers, window.offset_step_ms);
    const char *comma = "";
    for (int i = 0; i < 700; i++)
        if (window.statuses[i]) printf("%s\"%d\":%lu", comma, i, window.statuses[i]), comma = ",";
    if (window.lost_answers) printf("%s\"no answer\":%lu", comma, window.lost_answers), comma = ",";
    if (window.ended_by_edge) printf("%s\"ended by the edge\":%lu", comma, window.ended_by_edge);
    printf("}}\n");
}

/* --- commands --- */

static struct {
    enum { IDLE, PLACING, MEASURING, CHURNING, REFUSING, HANGING } doing;
    int64_t until, next_at, gap, hold;
    int left, width, failed_before;
    double target_ms;
} task;

/* By a child, at no one's priority: calls go on meanwhile, and a pause of theirs would be the next window's jitter. */
static void finish(void) {
    int64_t now = now_ns(), cpu = own_cpu_ns();
    fflush(stdout);
    pid_t child = fork();
    if (child <= 0) {
        struct sched_param none = {0};
        if (!child) sched_setscheduler(0, SCHED_OTHER, &none);
        print_window(task.target_ms, now, cpu);
        fflush(stdout);
        if (!child) _exit(0);
    }
    task.doing = IDLE;
}

static void advance(int64_t now) {
    switch (task.doing) {
    case IDLE:
        break;
    case PLACING:
        for (; task.left && now >= task.next_at; task.left--, task.next_at += task.gap)
            if (!place_call(0, 0)) task.left = 1;
        if (!task.left && !inviting_now) finish();
        break;
    case MEASURING:
        if (now >= task.until) finish();
        break;
    case CHURNING:
        for (; now < task.until && now >= task.next_at; task.next_at += task.gap) place_call(1, task.hold);
        for (int i = 0; i < call_top; i++)
            if (calls[i].state == UP && calls[i].churned && now >= calls[i].hang_at) hang_up(&calls[i]);
        if (now >= task.until) {
            int left = 0;
            for (int i = 0; i < MOST; i++) left += calls[i].state != FREE && calls[i].churned;
            if (!left) finish();
        }
        break;
    case REFUSING:
        if (now >= task.until) {
            finish();
        } else if (now >= task.next_at) { /* nobody answers */
            window.lost_answers += (uint64_t)refused_open;
            refused_open = 0;
            memset(refused_at, 0, sizeof refused_at);
            task.next_at = now + 1000 * MS;
        }
        break;
    case HANGING:
        for (int i = 0, done = 0; i < call_top && !done && now >= task.next_at; i++)
            if (calls[i].state == UP) hang_up(&calls[i]), task.next_at += 2 * MS, done = 1;
        if (!up_now && !leaving_now && !inviting_now) finish();
        break;
    }
}

static void keep_refusing(int64_t now) {
    if (task.doing != REFUSING || now >= task.until) return;
    if (refused_open < task.width) task.next_at = now + 1000 * MS;
    while (refused_open < task.width) send_unknown();
}

static void obey(char *line) {
    char word[32] = "", name[64] = "";
    double a = 0, b = 0, c = 0;
    int64_t now = now_ns();
    sscanf(line, "%31s", word);
    sscanf(line, "%*s %lf %lf %lf", &a, &b, &c);
    if (!strcmp(word, "edge") && sscanf(line, "%*s %*s %63s", name) == 1) {
        edge = loopback((int)a);
        snprintf(number, sizeof number, "%s", name);
        printf("{}\n");
        return;
    }
    if (!strcmp(word, "talk") && sscanf(line, "%*s %63s", name) == 1) {
        talk = !strcmp(name, "paced") ? PACED : !strcmp(name, "burst") ? BURSTS : !strcmp(name, "echo") ? ECHO : MUTE;
        printf("{}\n");
        return;
    }
    begin_window();
    task.target_ms = 10;
    task.next_at = now;
    task.until = now + (int64_t)(a * 1e9);
    task.gap = b > 0 ? (int64_t)(1e9 / b) : MS;
    if (!strcmp(word, "call")) {
        task.left = (int)a;
        task.doing = PLACING;
    } else if (!strcmp(word, "measure")) {
        task.target_ms = b;
        task.doing = MEASURING;
    } else if (!strcmp(word, "churn")) {
        task.hold = (int64_t)(c * 1e9);
        task.doing = CHURNING;
    } else if (!strcmp(word, "refuse")) {
        task.width = (int)b < 4096 ? (int)b : 4095;
        refused_open = 0;
        memset(refused_at, 0, sizeof refused_at);
        task.next_at = now + 1000 * MS;
        task.doing = REFUSING;
    } else if (!strcmp(word, "hang")) {
        task.doing = HANGING;
    } else {
        printf("{\"error\":\"what is %s?\"}\n", word);
    }
}

static void on_commands(void) {
    static char line[512];
    static size_t have;
    ssize_t got = read(0, line + have, sizeof line - 1 - have);
    if (got <= 0) exit(0);
    have += (size_t)got;
    line[have] = 0;
    char *end = strchr(line, '\n');
    if (!end) return;
    *end = 0;
    obey(line);
    have = 0;
}

/* --- the clock --- */

static void run_slot(uint64_t n, int64_t now) {
    int64_t due = start_ns + (int64_t)n * MS;
    int phase = (int)(n % PHASES), used = 0;
    for (int i = 0; i < call_top; i++)
        if (call_phase[i] == phase) send_rtp(&calls[i]), used = 1;
    for (int i = 0; i < agent_top; i++) {
        if (agent_phase[i] != phase) continue;
        if (agents[i]->out_size) flush_agent(agents[i]);
        agent_speaks(agents[i]);
    }
    if (used) sample(&window.generator, now - due);
}

static void on_media_events(void) {
    struct epoll_event events[512];
    int n;
    do {
        n = epoll_wait(media_fd, events, 512, 0);
        for (int i = 0; i < n; i++) {
            uint32_t index = (uint32_t)events[i].data.u64;
            if (events[i].data.u64 >> 32 == TAG_AGENT) {
                if (agents[index] && read_agent(agents[index])) close_agent(agents[index]);
            } else if (calls[index].state != FREE) {
                on_rtp(&calls[index]);
            }
        }
    } while (n == 512);
}

static void on_timer(void) {
    uint64_t expired;
    if (read(timer_fd, &expired, sizeof expired) < 0) return;
    on_media_events();
    int64_t now = now_ns();
    for (; start_ns + (int64_t)slot * MS <= now; slot++) {
        run_slot(slot, now);
        if (slot % 100 == 0) repeat_requests(now);
        if (slot % 1000 == 0) {
            real_offset = measure_offset();
            double step = (double)(real_offset - window.offset) / 1e6;
            if (step < 0) step = -step;
            if (step > window.offset_step_ms) window.offset_step_ms = step;
        }
        advance(now);
    }
}

int main(int argc, char **argv) {
    struct epoll_event events[512];
    struct sched_param fifo = {.sched_priority = 5};
    pin_to(argc > 1 ? atoi(argv[1]) : -1);
    signal(SIGCHLD, SIG_IGN);
    if (argc > 1 && atoi(argv[1]) >= 0) sched_setscheduler(0, SCHED_FIFO, &fifo); /* where it is allowed */
    raise_descriptor_limit();
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    base64_prepare();
    prepare_frames();
    real_offset = measure_offset();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    media_fd = epoll_create1(EPOLL_CLOEXEC);
    sip_fd = udp_socket(4 << 20);
    sip_port = port_of(sip_fd);
    stamp_arrivals(sip_fd);
    watch(epoll_fd, sip_fd, (uint64_t)TAG_SIP << 32);
    listener_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in any = loopback(0);
    if (bind(listener_fd, (struct sockaddr *)&any, sizeof any) || listen(listener_fd, 1024)) die("listen");
    watch(epoll_fd, listener_fd, (uint64_t)TAG_LISTENER << 32);
    watch(epoll_fd, 0, (uint64_t)TAG_COMMANDS << 32);
    start_ns = now_ns() + 10 * MS;
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct itimerspec every = {{0, MS}, {start_ns / 1000000000LL, start_ns % 1000000000LL}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &every, NULL);
    watch(epoll_fd, timer_fd, (uint64_t)TAG_TIMER << 32);
    memset(call_phase, NEVER, sizeof call_phase);
    memset(agent_phase, NEVER, sizeof agent_phase);
    begin_window();
    printf("{\"agents\":\"ws://127.0.0.1:%d/\",\"sip\":%d}\n", port_of(listener_fd), sip_port);
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(epoll_fd, events, 512, -1);
        for (int i = 0; i < n; i++) { /* what is due comes first */
            if (events[i].data.u64 >> 32 == TAG_TIMER) on_timer();
        }
        for (int i = 0; i < n; i++) {
            uint32_t index = (uint32_t)events[i].data.u64;
            switch (events[i].data.u64 >> 32) {
            case TAG_AGENT:
                if (agents[index] && read_agent(agents[index])) close_agent(agents[index]);
                break;
            case TAG_LISTENER:
                accept_agents();
                break;
            case TAG_SIP:
                on_sip();
                keep_refusing(now_ns());
                break;
            case TAG_COMMANDS:
                on_commands();
                keep_refusing(now_ns());
                fflush(stdout);
                break;
            }
        }
        if (task.doing == IDLE) fflush(stdout);
    }
}
