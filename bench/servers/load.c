// load: the load generator of the comparisons. One thread, one epoll; it sends, receives, and verifies
// what comes back: every byte, except in bulk.
//
//   load echo  -a HOST:PORT [-d depth] [-s size] [-l fd]   closed loop: depth messages in flight on each connection
//   load churn -a HOST:PORT [-c slots] [-s size] [-l fd]   connect, one message there and back, close
//   load bulk  -a HOST:PORT -l fd                          one way: what is sent to HOST:PORT arrives at fd
//
// -l is an inherited listening socket: the target of a relay under test. This process accepts there and
// echoes (bulk: receives and verifies), so that both ends of a relay are one thread on one core.
//
// It obeys standard input, line by line, and answers each line with one line of JSON:
//
//   open N    until N connections are open and each has passed one message there and back
//   run MS    generate load for MS milliseconds, then wait until nothing is in flight
//
// Between two lines nothing is in flight, so that the processor time which the server used between them
// belongs to the messages that the answer counts. It ends with its input, or at the first byte that is
// wrong: {"error": ...} and status 1.
//
// The stream of every connection is the same sequence of pseudo-random bytes with a prime period, begun at
// an offset of the connection's own: what is lost, repeated, swapped or sent to the wrong peer differs.
//
// Copying and comparing a gigabyte costs more than the best relay needs to pass it on, so in bulk the load
// would be what is measured. There the first FULLY bytes of every run are verified, and from then on one
// buffer of SAMPLED; the others are counted and dropped in the kernel. A byte lost, repeated or out of place
// shifts everything after it and is found in the next buffer that is looked at.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	PERIOD = 65521,     // prime; a period and a chunk stay in the second-level cache
	CHUNK = 256 << 10,  // the most that one call sends or receives
	EVENTS = 256,       // the most events that one wait takes
	OPENING = 128,      // connections that are being opened at a time: below any listener's backlog
	SOURCES = 32,       // source addresses 127.0.0.2 and on: no port has to leave TIME_WAIT in time
	FULLY = 32 << 20,   // bulk: bytes of a run of which every one is verified
	SAMPLED = 8,        // bulk: after them, one buffer of so many
	PATIENCE_MS = 10000 // the longest wait for what is owed
};

enum kind { LISTENER, TARGET, CLIENT };


struct conn {
	int fd;
	enum kind kind;
	uint32_t base; // where in the period its stream begins
	bool connected;
	bool polling_out;
	uint64_t want, sent, received; // bytes
	uint64_t begun;                // churn: when the connect was called
	uint64_t asked, answered;      // messages
	uint64_t *times;               // when each message in flight was sent
	uint8_t *held;                 // TARGET: what could not be echoed at once
	size_t held_length, held_offset;
	struct conn *next_free;
};

static uint8_t pattern[PERIOD + CHUNK];
static uint8_t buffer[CHUNK];
static struct sockaddr_in peer;
static enum { ECHO, CHURN, BULK } mode;
static unsigned depth = 1, size = 250, slots = 32;
static int epfd, listener = -1;
static struct conn listening = {.kind = LISTENER};

static struct conn **clients;
static unsigned client_count, client_room;
static struct conn *free_targets;
static uint64_t connects; // ever begun

static bool running;
static uint64_t messages, bytes, last_done; // of this command
static uint64_t in_flight;                  // messages; bulk: bytes
static unsigned targets_open;
static uint64_t buffers; // bulk: received

// The histogram's buckets are 1/64 wide for each power of two: 1.6 % at the most.
enum { SUB_BITS = 6, SUB = 1 << SUB_BITS };
static uint64_t histogram[64 * SUB];

static void fail(const char *format, ...) {
	va_list args;
	va_start(args, format);
	printf("{\"error\":\"");
	vprintf(format, args);
	printf("\"}\n");
	fflush(stdout);
	exit(1);
}

static uint64_t now_of(clockid_t clock) {
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t now(void) { return now_of(CLOCK_MONOTONIC); }

static void record(uint64_t ns) {
	unsigned shift = ns < SUB ? 0 : 63 - SUB_BITS - (unsigned)__builtin_clzll(ns);
	histogram[shift * SUB + (ns >> shift)]++;
}

// quantile is the upper edge of the bucket in which that share of the latencies ends.
static uint64_t quantile(uint64_t count, double share) {
	uint64_t rank = (uint64_t)((double)count * share), seen = 0;
	if (rank >= count) rank = count ? count - 1 : 0;
	for (unsigned i = 0; i < sizeof histogram / sizeof histogram[0]; i++) {
		seen += histogram[i];
		if (seen > rank) {
			if (i < 2 * SUB) return i;
			unsigned shift = i / SUB - 1;
			return ((uint64_t)(i - shift * SUB) + 1) << shift;
		}
	}
	return 0;
}

static const uint8_t *stream(const struct conn *c, uint64_t offset) { return pattern + (c->base + offset) % PERIOD; }

static void watch(struct conn *c, int op, uint32_t events) {
	struct epoll_event e = {.events = events, .data.ptr = c};
	if (epoll_ctl(epfd, op, c->fd, &e) < 0) fail("epoll_ctl: %s", strerror(errno));
}

// client_events is edge-triggered, so that the kernel does not look at a socket again after it was emptied;
// in bulk each event is worth one chunk.
static uint32_t client_events(void) { return EPOLLIN | EPOLLRDHUP | (mode == BULK ? 0 : EPOLLET); }

static void poll_out(struct conn *c, bool on) {
	if (c->polling_out == on) return;
	c->polling_out = on;
	uint32_t in = c->kind == CLIENT ? client_events() : on ? 0 : EPOLLIN; // a target that cannot write stops reading
	watch(c, EPOLL_CTL_MOD, in | (on ? EPOLLOUT : 0));
}

static void no_delay(int fd) {
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

// start_connect makes a socket and begins to connect it. Loopback has usually answered when it returns.
static void start_connect(struct conn *c) {
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0) fail("socket: %s", strerror(errno));
	int one = 1;
	setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
	struct sockaddr_in source = {.sin_family = AF_INET};
	source.sin_addr.s_addr = htonl(0x7f000002u + (uint32_t)(connects % SOURCES));
	if (bind(c->fd, (struct sockaddr *)&source, sizeof source) < 0) fail("bind: %s", strerror(errno));
	if (mode == ECHO) no_delay(c->fd);
	c->kind = CLIENT;
	c->base = (uint32_t)(connects++ * 7919 % PERIOD);
	if (mode == BULK) c->base = 0;
	c->connected = c->polling_out = false;
	c->want = c->sent = c->received = c->asked = c->answered = 0;
	c->begun = now();
	if (connect(c->fd, (struct sockaddr *)&peer, sizeof peer) < 0 && errno != EINPROGRESS)
		fail("connect: %s", strerror(errno));
}

// flush sends what is wanted. It tells whether the connection was there to send on.
static bool flush(struct conn *c) {
	while (c->sent < c->want) {
		uint64_t left = c->want - c->sent;
		ssize_t n = send(c->fd, stream(c, c->sent), left < CHUNK ? left : CHUNK, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0) {
			if (errno == EAGAIN) {
				poll_out(c, true);
				return false;
			}
			fail("send: %s", strerror(errno));
		}
		c->sent += (uint64_t)n;
	}
	poll_out(c, false);
	return true;
}

static void ask(struct conn *c, unsigned count, uint64_t at) {
	for (unsigned i = 0; i < count; i++) c->times[c->asked++ % depth] = at;
	c->want += (uint64_t)count * size;
	in_flight += count;
	flush(c);
}

// begin_slot opens a connection of a churn slot and sends its one message.
static void begin_slot(struct conn *c) {
	start_connect(c);
	watch(c, EPOLL_CTL_ADD, client_events());
	c->want = size;
	in_flight++;
	flush(c);
}

// client_readable receives once and tells whether to receive again: a short read has emptied the socket,
// but an end or an error is still there after it.
static bool client_readable(struct conn *c, bool ended) {
	ssize_t n = recv(c->fd, buffer, CHUNK, MSG_DONTWAIT);
	if (n < 0) {
		if (errno == EAGAIN) return false;
		fail("recv: %s", strerror(errno));
	}
	if (n == 0) fail("end of file after %llu bytes of %llu", (unsigned long long)c->received, (unsigned long long)c->sent);
	if (c->received + (uint64_t)n > c->sent) fail("%llu bytes came back for %llu sent", (unsigned long long)c->received + (unsigned long long)n, (unsigned long long)c->sent);
	if (memcmp(buffer, stream(c, c->received), (size_t)n) != 0)
		fail("wrong bytes within %zd of offset %llu", n, (unsigned long long)c->received);
	c->received += (uint64_t)n;
	bytes += (uint64_t)n;
	bool more = n == CHUNK || ended;
	if (mode == BULK) return more;
	uint64_t at = now(), done = c->received / size - c->answered;
	if (done == 0) return more;
	last_done = at;
	messages += done;
	in_flight -= done;
	if (mode == CHURN) {
		record(at - c->begun);
		close(c->fd);
		if (running) begin_slot(c);
		return false;
	}
	for (uint64_t i = 0; i < done; i++) record(at - c->times[c->answered++ % depth]);
	if (running) ask(c, (unsigned)done, at);
	return more;
}

static void accept_targets(void) {
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno == EAGAIN || errno == ECONNABORTED) return;
			fail("accept: %s", strerror(errno));
		}
		struct conn *c = free_targets;
		if (c) free_targets = c->next_free;
		else c = malloc(sizeof *c);
		*c = (struct conn){.fd = fd, .kind = TARGET};
		targets_open++;
		watch(c, EPOLL_CTL_ADD, EPOLLIN);
	}
}

static void close_target(struct conn *c) {
	close(c->fd);
	free(c->held);
	c->held = NULL;
	targets_open--;
	c->next_free = free_targets;
	free_targets = c;
}

// target_send echoes what it can and holds the rest.
static void target_send(struct conn *c, const uint8_t *p, size_t length) {
	ssize_t n = send(c->fd, p, length, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && errno != EAGAIN) fail("send of the target: %s", strerror(errno));
	size_t sent = n < 0 ? 0 : (size_t)n;
	if (sent == length) {
		if (c->held) {
			free(c->held);
			c->held = NULL;
		}
		poll_out(c, false);
		return;
	}
	if (c->held) {
		c->held_offset += sent;
		return;
	}
	c->held = malloc(length - sent);
	memcpy(c->held, p + sent, length - sent);
	c->held_length = length - sent;
	c->held_offset = 0;
	poll_out(c, true);
}

static void target_readable(struct conn *c) {
	bool drop = mode == BULK && bytes > FULLY && ++buffers % SAMPLED != 0;
	ssize_t n = recv(c->fd, drop ? NULL : buffer, CHUNK, MSG_DONTWAIT | (drop ? MSG_TRUNC : 0)); // tcp(7)
	if (n < 0) {
		if (errno == EAGAIN) return;
		fail("recv of the target: %s", strerror(errno));
	}
	if (n == 0) {
		close_target(c);
		return;
	}
	if (mode != BULK) {
		target_send(c, buffer, (size_t)n);
		return;
	}
	if (!drop && memcmp(buffer, stream(c, c->received), (size_t)n) != 0)
		fail("wrong bytes within %zd of offset %llu", n, (unsigned long long)c->received);
	c->received += (uint64_t)n;
	bytes += (uint64_t)n;
	in_flight -= (uint64_t)n;
	last_done = now();
}

static void client_writable(struct conn *c) {
	if (mode == BULK) {
		if (!running) {
			poll_out(c, false);
			return;
		}
		ssize_t n = send(c->fd, stream(c, c->sent), CHUNK, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0) {
			if (errno == EAGAIN) return;
			fail("send: %s", strerror(errno));
		}
		c->sent += (uint64_t)n;
		in_flight += (uint64_t)n;
		return;
	}
	flush(c);
}

// turn waits once and handles what is ready.
static void turn(int timeout_ms) {
	struct epoll_event events[EVENTS];
	int n = epoll_wait(epfd, events, EVENTS, timeout_ms);
	if (n < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
	for (int i = 0; i < n; i++) {
		struct conn *c = events[i].data.ptr;
		uint32_t e = events[i].events;
		if (c->kind == LISTENER) {
			accept_targets();
		} else if (c->kind == TARGET) {
			if (c->held) {
				if (e & (EPOLLERR | EPOLLHUP)) fail("a target's connection was reset with an echo unsent");
				target_send(c, c->held + c->held_offset, c->held_length - c->held_offset);
			} else {
				target_readable(c);
			}
		} else {
			if (e & EPOLLOUT) client_writable(c);
			bool ended = e & (EPOLLRDHUP | EPOLLERR | EPOLLHUP), more = ended || e & EPOLLIN;
			while (more) more = client_readable(c, ended);
		}
	}
}

static void settle(const char *what) {
	for (uint64_t end = now() + PATIENCE_MS * 1000000ull; in_flight > 0;) {
		turn(100);
		if (now() > end) fail("%s: %llu still in flight after %d ms", what, (unsigned long long)in_flight, PATIENCE_MS);
	}
}

static void open_until(unsigned count) {
	if (count > client_room) {
		clients = realloc(clients, count * sizeof *clients);
		client_room = count;
	}
	uint64_t patience = now() + PATIENCE_MS * 1000000ull;
	while (client_count < count) {
		while (client_count < count && in_flight < OPENING) {
			struct conn *c = calloc(1, sizeof *c);
			c->times = calloc(depth, sizeof *c->times);
			start_connect(c);
			watch(c, EPOLL_CTL_ADD, client_events());
			clients[client_count++] = c;
			if (mode != BULK) ask(c, 1, now());
			patience = now() + PATIENCE_MS * 1000000ull;
		}
		turn(100);
		if (now() > patience) fail("open: %u connections, then nothing for %d ms", client_count, PATIENCE_MS);
	}
	settle("open");
	while (mode == BULK && targets_open < count) {
		turn(100);
		if (now() > patience) fail("open: %u of %u connections came through", targets_open, count);
	}
}

static void run(uint64_t ms) {
	uint64_t begun = now(), end = begun + ms * 1000000;
	running = true;
	if (mode == CHURN) {
		while (client_count < slots) {
			clients = realloc(clients, slots * sizeof *clients);
			clients[client_count++] = calloc(1, sizeof **clients);
		}
		for (unsigned i = 0; i < slots; i++) begin_slot(clients[i]);
	} else if (mode == ECHO) {
		for (unsigned i = 0; i < client_count; i++) ask(clients[i], depth, now());
	} else {
		for (unsigned i = 0; i < client_count; i++) poll_out(clients[i], true);
	}
	while (now() < end) turn(10);
	running = false;
	settle("run");
	// What the target still has to close belongs to this run.
	for (uint64_t patience = now() + PATIENCE_MS * 1000000ull; mode == CHURN && targets_open > 0;) {
		turn(100);
		if (now() > patience) fail("run: %u connections of the target were never closed", targets_open);
	}
}

static void command(char *line) {
	uint64_t begun = now(), cpu = now_of(CLOCK_PROCESS_CPUTIME_ID);
	messages = bytes = 0;
	last_done = begun;
	memset(histogram, 0, sizeof histogram);
	unsigned long n;
	if (sscanf(line, "open %lu", &n) == 1) open_until((unsigned)n);
	else if (sscanf(line, "run %lu", &n) == 1) run(n);
	else fail("no such command");
	uint64_t elapsed = last_done > begun ? last_done - begun : 1;
	printf("{\"messages\":%llu,\"bytes\":%llu,\"elapsed_ns\":%llu,\"cpu_ns\":%llu,\"p50_ns\":%llu,\"p99_ns\":%llu,\"max_ns\":%llu}\n",
		(unsigned long long)messages, (unsigned long long)bytes, (unsigned long long)elapsed,
		(unsigned long long)(now_of(CLOCK_PROCESS_CPUTIME_ID) - cpu), (unsigned long long)quantile(messages, .5),
		(unsigned long long)quantile(messages, .99), (unsigned long long)quantile(messages, 1));
	fflush(stdout);
}

int main(int argc, char **argv) {
	if (argc < 2) fail("usage: load echo|churn|bulk -a HOST:PORT");
	if (!strcmp(argv[1], "echo")) mode = ECHO;
	else if (!strcmp(argv[1], "churn")) mode = CHURN;
	else if (!strcmp(argv[1], "bulk")) mode = BULK;
	else fail("no such mode");
	optind = 2;
	for (int o; (o = getopt(argc, argv, "a:d:s:c:l:")) != -1;) {
		char *colon;
		switch (o) {
		case 'a':
			colon = strrchr(optarg, ':');
			if (!colon) fail("-a wants HOST:PORT");
			*colon = 0;
			peer.sin_family = AF_INET;
			peer.sin_port = htons((uint16_t)atoi(colon + 1));
			if (inet_pton(AF_INET, optarg, &peer.sin_addr) != 1) fail("-a wants an IPv4 address");
			break;
		case 'd': depth = (unsigned)atoi(optarg); break;
		case 's': size = (unsigned)atoi(optarg); break;
		case 'c': slots = (unsigned)atoi(optarg); break;
		case 'l': listener = atoi(optarg); break;
		default: fail("usage");
		}
	}
	if (!peer.sin_port || !depth || !size || size > CHUNK || !slots) fail("usage");
	uint64_t x = 88172645463325252ull;
	for (unsigned i = 0; i < sizeof pattern; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17; // xorshift64
		pattern[i] = i < PERIOD ? (uint8_t)(x >> 24) : pattern[i - PERIOD];
	}
	epfd = epoll_create1(EPOLL_CLOEXEC);
	if (listener >= 0) {
		fcntl(listener, F_SETFL, O_NONBLOCK);
		no_delay(listener); // what is accepted inherits it
		listening.fd = listener;
		watch(&listening, EPOLL_CTL_ADD, EPOLLIN);
	}
	char line[128];
	while (fgets(line, sizeof line, stdin)) command(line);
	return 0;
}
