// uring: an echo server on io_uring. One ring and one listener for each thread; multishot accept into the
// ring's own file table, multishot receive into a ring of provided buffers, each buffer sent from where it
// is and given back when the send is complete. Work is deferred to the wait, so that one system call
// submits everything and reaps everything.

#include "serve.h"
#include <liburing.h>
#include <sys/mman.h>

enum {
	ENTRIES = 4096,      // submissions; the completion queue is SCALE times that
	SCALE = 8,
	BUFFERS = 1024,      // a power of two
	BUFFER = 64 << 10,   // the most that one receive takes
	COLOUR = 5 * 64,     // added to the distance between buffers, so that their first lines do not share a cache set
	GROUP = 0,
	NONE = 0xffff
};

enum op { ACCEPT, RECEIVE, SEND, CLOSE };

// A conn is a slot of the file table. Buffers that wait for their turn to be sent are a list.
struct conn {
	uint16_t head, tail;
	bool sending, ended, failed, starved;
};

struct loop {
	struct io_uring ring;
	struct io_uring_buf_ring *buffers;
	char *memory;
	struct conn *conns;
	uint32_t length[BUFFERS];
	uint16_t next[BUFFERS];
	int given;          // buffers given back in this turn
	unsigned free;      // buffers that the kernel has
	uint32_t *starving; // connections whose receive ended because there was no buffer
	size_t starving_count;
};

static size_t slots;

static char *buffer_at(struct loop *l, unsigned id) { return l->memory + (size_t)id * (BUFFER + COLOUR); }

static struct io_uring_sqe *submission(struct loop *l, enum op op, uint32_t slot, uint16_t buffer) {
	struct io_uring_sqe *s = io_uring_get_sqe(&l->ring);
	while (!s) { // full: hand over what is there
		if (io_uring_submit(&l->ring) < 0) die("io_uring_submit");
		s = io_uring_get_sqe(&l->ring);
	}
	s->user_data = (uint64_t)op << 56 | (uint64_t)buffer << 32 | slot;
	return s;
}

// prepared keeps the user data, which some liburing preparations clear.
#define PREPARE(l, op, slot, buffer, flag_bits, call, ...)                    \
	do {                                                                  \
		struct io_uring_sqe *s_ = submission(l, op, slot, buffer);    \
		uint64_t data_ = (uint64_t)(op) << 56 | (uint64_t)(buffer) << 32 | (slot); \
		call(s_, __VA_ARGS__);                                        \
		s_->user_data = data_;                                        \
		s_->flags |= (flag_bits);                                     \
	} while (0)

static void receive(struct loop *l, uint32_t slot) {
	struct io_uring_sqe *s = submission(l, RECEIVE, slot, NONE);
	uint64_t data = s->user_data;
	io_uring_prep_recv_multishot(s, (int)slot, NULL, 0, 0);
	s->user_data = data;
	s->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
	s->buf_group = GROUP;
}

static void send_next(struct loop *l, uint32_t slot) {
	struct conn *c = &l->conns[slot];
	uint16_t id = c->head;
	c->sending = true;
	// MSG_WAITALL: what does not fit waits in the kernel, in order.
	PREPARE(l, SEND, slot, id, IOSQE_FIXED_FILE, io_uring_prep_send, (int)slot, buffer_at(l, id), l->length[id],
		MSG_NOSIGNAL | MSG_WAITALL);
}

static void give_back(struct loop *l, uint16_t id) {
	io_uring_buf_ring_add(l->buffers, buffer_at(l, id), BUFFER, id, BUFFERS - 1, l->given++);
}

// close_when_done closes a connection that has ended and owes nothing.
static void close_when_done(struct loop *l, uint32_t slot) {
	struct conn *c = &l->conns[slot];
	if (!c->ended || c->sending || c->head != NONE) return;
	PREPARE(l, CLOSE, slot, NONE, 0, io_uring_prep_close_direct, slot);
}

static void on_accept(struct loop *l, int listener, const struct io_uring_cqe *e) {
	if (!(e->flags & IORING_CQE_F_MORE))
		PREPARE(l, ACCEPT, 0, NONE, 0, io_uring_prep_multishot_accept_direct, listener, NULL, NULL, 0);
	if (e->res < 0) return;
	l->conns[e->res] = (struct conn){.head = NONE, .tail = NONE};
	receive(l, (uint32_t)e->res);
}

static void on_receive(struct loop *l, uint32_t slot, const struct io_uring_cqe *e) {
	struct conn *c = &l->conns[slot];
	if (e->flags & IORING_CQE_F_BUFFER) {
		uint16_t id = (uint16_t)(e->flags >> IORING_CQE_BUFFER_SHIFT);
		l->free--;
		if (e->res <= 0 || c->failed) {
			give_back(l, id);
		} else {
			l->length[id] = (uint32_t)e->res;
			l->next[id] = NONE;
			if (c->head == NONE) c->head = id;
			else l->next[c->tail] = id;
			c->tail = id;
			if (!c->sending) send_next(l, slot);
		}
	}
	if (e->flags & IORING_CQE_F_MORE) return;
	if (e->res == -ENOBUFS) {
		if (!c->starved) l->starving[l->starving_count++] = slot;
		c->starved = true;
	} else if (e->res > 0) {
		receive(l, slot); // the kernel ends a multishot now and then
	} else {
		c->ended = true;
		close_when_done(l, slot);
	}
}

static void on_send(struct loop *l, uint32_t slot, uint16_t id, const struct io_uring_cqe *e) {
	struct conn *c = &l->conns[slot];
	c->sending = false;
	if (e->res != (int)l->length[id]) c->failed = true;
	c->head = l->next[id];
	give_back(l, id);
	while (c->failed && c->head != NONE) {
		uint16_t rest = c->head;
		c->head = l->next[rest];
		give_back(l, rest);
	}
	if (c->head != NONE) send_next(l, slot);
	close_when_done(l, slot);
}

static void *run(void *argument) {
	int listener = (int)(intptr_t)argument;
	struct loop *l = calloc(1, sizeof *l);
	l->conns = calloc(slots, sizeof *l->conns);
	l->starving = calloc(slots, sizeof *l->starving);
	struct io_uring_params p = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
		.cq_entries = ENTRIES * SCALE,
	};
	int failed = io_uring_queue_init_params(ENTRIES, &l->ring, &p);
	if (failed) errno = -failed, die("io_uring_queue_init_params");
	if ((failed = io_uring_register_files_sparse(&l->ring, (unsigned)slots))) errno = -failed, die("io_uring_register_files_sparse");
	l->memory = mmap(NULL, (size_t)BUFFERS * (BUFFER + COLOUR), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	l->buffers = mmap(NULL, BUFFERS * sizeof(struct io_uring_buf), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (l->memory == MAP_FAILED || l->buffers == MAP_FAILED) die("mmap");
	struct io_uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)l->buffers, .ring_entries = BUFFERS, .bgid = GROUP};
	if ((failed = io_uring_register_buf_ring(&l->ring, &reg, 0))) errno = -failed, die("io_uring_register_buf_ring");
	io_uring_buf_ring_init(l->buffers);
	for (unsigned i = 0; i < BUFFERS; i++) give_back(l, (uint16_t)i);
	io_uring_buf_ring_advance(l->buffers, l->given);
	l->free = BUFFERS;
	l->given = 0;
	PREPARE(l, ACCEPT, 0, NONE, 0, io_uring_prep_multishot_accept_direct, listener, NULL, NULL, 0);
	for (;;) {
		int n = io_uring_submit_and_wait(&l->ring, 1);
		if (n < 0 && n != -EINTR) errno = -n, die("io_uring_submit_and_wait");
		struct io_uring_cqe *e;
		unsigned head, seen = 0;
		io_uring_for_each_cqe(&l->ring, head, e) {
			uint32_t slot = (uint32_t)e->user_data;
			switch ((enum op)(e->user_data >> 56)) {
			case ACCEPT: on_accept(l, listener, e); break;
			case RECEIVE: on_receive(l, slot, e); break;
			case SEND: on_send(l, slot, (uint16_t)(e->user_data >> 32), e); break;
			case CLOSE: break;
			}
			seen++;
		}
		io_uring_cq_advance(&l->ring, seen);
		if (l->given) {
			io_uring_buf_ring_advance(l->buffers, l->given);
			l->free += (unsigned)l->given;
			l->given = 0;
		}
		while (l->starving_count && l->free) {
			uint32_t slot = l->starving[--l->starving_count];
			l->conns[slot].starved = false;
			receive(l, slot);
		}
	}
	return NULL;
}

int main(int argc, char **argv) {
	slots = descriptors();
	return serve(argc, argv, 0, run);
}
