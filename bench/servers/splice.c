// splice: a TCP relay on epoll. One loop and one listener for each thread, edge-triggered, both descriptors
// of a pair in one loop. Small messages pass through one buffer by recv and send; once a read fills the
// buffer, or a peer does not take what it is sent, bytes move by splice through a pipe that is held only
// while it holds something. Each direction ends by itself. It knows no aborts: a reset becomes an end.

#include "serve.h"
#include <fcntl.h>
#include <sys/epoll.h>

enum {
	BUFFER = 16 << 10,  // what is worth a copy; a read that fills it goes on by splice
	PIPE = 1 << 20,     // fs.pipe-max-size, and a user's share allows sixteen of them
	EVENTS = 256,
	ROUNDS = 16,        // bursts of one direction before the next connection has its turn
	POOL = 16           // pipes kept for later
};

struct pipe {
	int ends[2];
	size_t size;
	struct pipe *next;
};

// A direction moves bytes from its side to the other.
struct side {
	struct pair *pair;
	int fd;
	bool ending;  // epoll has said that its end is in sight
	bool ended;   // its end was read
	bool closed;  // its end was passed on
	bool bulk;    // many bytes came at a time
	size_t held;  // bytes in the pipe
	struct pipe *pipe;
};

struct pair {
	struct side sides[2];
	bool connected, gone, queued;
	struct pair *next;
};

struct loop {
	int epfd;
	char buffer[BUFFER];
	struct pipe *pipes;
	unsigned pipe_count;
	struct pair *dead, *again; // to free, to pump again, after this batch of events
};

static struct sockaddr_in target;

static struct side *other(struct side *s) { return &s->pair->sides[s == &s->pair->sides[0]]; }

static struct pipe *take_pipe(struct loop *l) {
	struct pipe *p = l->pipes;
	if (p) {
		l->pipes = p->next;
		l->pipe_count--;
		return p;
	}
	p = malloc(sizeof *p);
	if (!p || pipe2(p->ends, O_NONBLOCK | O_CLOEXEC) < 0) {
		free(p);
		return NULL;
	}
	int size = fcntl(p->ends[1], F_SETPIPE_SZ, PIPE);
	if (size < 0) size = fcntl(p->ends[1], F_GETPIPE_SZ);
	p->size = (size_t)size;
	return p;
}

static void give_pipe(struct loop *l, struct side *s) {
	struct pipe *p = s->pipe;
	if (!p) return;
	s->pipe = NULL;
	if (s->held > 0 || l->pipe_count == POOL) { // with something in it, it is of no use to another
		close(p->ends[0]);
		close(p->ends[1]);
		free(p);
		return;
	}
	p->next = l->pipes;
	l->pipes = p;
	l->pipe_count++;
}

static void hang_up(struct loop *l, struct pair *p) {
	if (p->gone) return;
	p->gone = true;
	for (int i = 0; i < 2; i++) {
		give_pipe(l, &p->sides[i]);
		close(p->sides[i].fd);
	}
	if (p->queued) return; // freed when its turn comes
	p->next = l->dead;
	l->dead = p;
}

static void again(struct loop *l, struct pair *p) {
	if (p->queued || p->gone) return;
	p->queued = true;
	p->next = l->again;
	l->again = p;
}

enum outcome { WAIT, MORE, FAILED };

// empty moves what the pipe holds to the other side.
static enum outcome empty(struct side *s) {
	while (s->held > 0) {
		ssize_t n = splice(s->pipe->ends[0], NULL, other(s)->fd, NULL, s->held, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
		if (n < 0) return errno == EAGAIN ? WAIT : FAILED;
		s->held -= (size_t)n;
	}
	return MORE;
}

// stash puts into a pipe what the other side did not take.
static enum outcome stash(struct loop *l, struct side *s, const char *p, size_t length) {
	if (!s->pipe && !(s->pipe = take_pipe(l))) return FAILED;
	if (write(s->pipe->ends[1], p, length) != (ssize_t)length) return FAILED; // an empty pipe takes a buffer
	s->held = length;
	return WAIT;
}

// burst moves one buffer or one pipe full.
static enum outcome burst(struct loop *l, struct side *s) {
	if (s->held > 0) {
		enum outcome o = empty(s);
		if (o != MORE) return o;
	}
	if (s->ended) return WAIT;
	ssize_t n;
	if (s->bulk && !s->pipe) s->pipe = take_pipe(l);
	if (!s->pipe) {
		n = recv(s->fd, l->buffer, BUFFER, 0);
		if (n > 0) {
			ssize_t sent = send(other(s)->fd, l->buffer, (size_t)n, MSG_NOSIGNAL);
			if (sent < 0 && errno != EAGAIN) return FAILED;
			if (sent < 0) sent = 0;
			s->bulk = n == BUFFER;
			if (sent < n) return stash(l, s, l->buffer + sent, (size_t)(n - sent));
			// A short read emptied the socket; what comes next is an event of its own, unless
			// the end came with the bytes.
			return n == BUFFER || s->ending ? MORE : WAIT;
		}
	} else {
		n = splice(s->fd, NULL, s->pipe->ends[1], NULL, s->pipe->size, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
		if (n > 0) {
			s->bulk = n >= BUFFER;
			s->held = (size_t)n;
			return empty(s);
		}
	}
	if (n == 0) s->ended = true;
	else if (errno != EAGAIN) return FAILED;
	return WAIT;
}

static void pump(struct loop *l, struct pair *p) {
	for (int i = 0; i < 2; i++) {
		struct side *s = &p->sides[i];
		enum outcome o = MORE;
		for (int k = 0; k < ROUNDS && o == MORE; k++) o = burst(l, s);
		if (o == FAILED) {
			hang_up(l, p);
			return;
		}
		if (o == MORE) again(l, p);
		if (s->held == 0 && o == WAIT) give_pipe(l, s);
		if (s->ended && s->held == 0 && !s->closed) {
			s->closed = true;
			shutdown(other(s)->fd, SHUT_WR);
		}
	}
	if (p->sides[0].closed && p->sides[1].closed) hang_up(l, p);
}

static bool watch(struct loop *l, struct side *s, uint32_t events) {
	struct epoll_event e = {.events = events | EPOLLET, .data.ptr = s};
	return epoll_ctl(l->epfd, EPOLL_CTL_ADD, s->fd, &e) == 0;
}

static void start(struct loop *l, int inbound) {
	int outbound = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
	struct pair *p = calloc(1, sizeof *p);
	if (outbound < 0 || !p) {
		close(inbound);
		if (outbound >= 0) close(outbound);
		free(p);
		return;
	}
	setsockopt(outbound, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	p->sides[0] = (struct side){.pair = p, .fd = inbound};
	p->sides[1] = (struct side){.pair = p, .fd = outbound};
	if ((connect(outbound, (struct sockaddr *)&target, sizeof target) < 0 && errno != EINPROGRESS) ||
		!watch(l, &p->sides[1], EPOLLIN | EPOLLOUT | EPOLLRDHUP)) {
		hang_up(l, p);
	}
}

// connected is called once the outbound leg is writable, or has failed.
static void connected(struct loop *l, struct pair *p) {
	int e = 0;
	socklen_t length = sizeof e;
	if (getsockopt(p->sides[1].fd, SOL_SOCKET, SO_ERROR, &e, &length) < 0 || e != 0 ||
		!watch(l, &p->sides[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP)) {
		hang_up(l, p);
		return;
	}
	p->connected = true;
	pump(l, p);
}

static void *run(void *argument) {
	int listener = (int)(intptr_t)argument;
	struct loop *l = calloc(1, sizeof *l);
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd < 0) die("epoll_create1");
	struct epoll_event e = {.events = EPOLLIN}, events[EVENTS];
	epoll_ctl(l->epfd, EPOLL_CTL_ADD, listener, &e);
	for (;;) {
		int n = epoll_wait(l->epfd, events, EVENTS, l->again ? 0 : -1);
		for (int i = 0; i < n; i++) {
			struct side *s = events[i].data.ptr;
			if (!s) {
				for (int fd, k = 0; k < EVENTS && (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0; k++)
					start(l, fd);
				continue;
			}
			if (s->pair->gone) continue;
			if (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) s->ending = true;
			if (!s->pair->connected) {
				if (events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) connected(l, s->pair);
			} else {
				pump(l, s->pair);
			}
		}
		struct pair *p = l->again;
		l->again = NULL;
		while (p) {
			struct pair *next = p->next;
			p->queued = false;
			if (p->gone) free(p);
			else pump(l, p);
			p = next;
		}
		while ((p = l->dead)) {
			l->dead = p->next;
			free(p);
		}
	}
	return NULL;
}

int main(int argc, char **argv) {
	if (argc < 4) {
		fprintf(stderr, "usage: %s ADDRESS THREADS TARGET\n", argv[0]);
		return 2;
	}
	target = address(argv[3]);
	descriptors();
	return serve(argc, argv, SOCK_NONBLOCK, run);
}
