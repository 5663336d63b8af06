// epoll: an echo server on epoll, as tight as it gets: one loop and one listener for each thread,
// edge-triggered (so that the kernel does not look at a socket again after it was emptied), recv and send
// through one buffer. Nothing is allocated for a connection unless its peer does not take what it is sent.

#include "serve.h"
#include <sys/epoll.h>

enum {
	BUFFER = 64 << 10,
	EVENTS = 512,
	ACCEPTS = 64,
	READ_ONCE = 16 // buffers from one connection before the next has its turn
};

// A rest is what a peer has not taken yet. While there is one, nothing more is read.
struct rest {
	size_t offset, length;
	char bytes[];
};

// By descriptor; an entry belongs to the thread that accepted it.
static struct rest **rests;

static void hang_up(int fd) {
	free(rests[fd]);
	rests[fd] = NULL;
	close(fd);
}

// watch arms the descriptor, and again where there may be more than was read: that tells the event anew.
static void watch(int epfd, int op, int fd) {
	struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};
	if (rests[fd]) e.events |= EPOLLOUT;
	if (epoll_ctl(epfd, op, fd, &e) < 0) hang_up(fd);
}

// pass sends length bytes and keeps what the peer does not take. It tells whether the connection goes on.
static bool pass(int fd, const char *p, size_t length) {
	ssize_t sent = send(fd, p, length, MSG_NOSIGNAL);
	if (sent == (ssize_t)length) return true;
	if (sent < 0 && errno != EAGAIN) return false;
	if (sent < 0) sent = 0;
	struct rest *r = malloc(sizeof *r + length - (size_t)sent);
	if (!r) die("malloc");
	r->offset = 0;
	r->length = length - (size_t)sent;
	memcpy(r->bytes, p + sent, r->length);
	rests[fd] = r;
	return true;
}

// pass_rest tells whether the connection goes on.
static bool pass_rest(int fd) {
	struct rest *r = rests[fd];
	ssize_t sent = send(fd, r->bytes + r->offset, r->length - r->offset, MSG_NOSIGNAL);
	if (sent < 0) return errno == EAGAIN;
	r->offset += (size_t)sent;
	if (r->offset == r->length) {
		free(r);
		rests[fd] = NULL;
	}
	return true;
}

static void ready(int epfd, int fd, uint32_t events, char *buffer) {
	bool rested = rests[fd] != NULL;
	if (rested && !pass_rest(fd)) {
		hang_up(fd);
		return;
	}
	if (rests[fd]) return;
	if (rested) watch(epfd, EPOLL_CTL_MOD, fd);
	// A short read has emptied the socket; what comes next is an event of its own, unless the end came
	// with the bytes. After a rest nobody knows.
	bool more = rested || events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR);
	for (int i = 0; more; i++) {
		if (i == READ_ONCE) {
			watch(epfd, EPOLL_CTL_MOD, fd);
			return;
		}
		ssize_t n = recv(fd, buffer, BUFFER, 0);
		if (n < 0 && errno == EAGAIN) return;
		if (n <= 0 || !pass(fd, buffer, (size_t)n)) {
			hang_up(fd);
			return;
		}
		if (rests[fd]) {
			watch(epfd, EPOLL_CTL_MOD, fd);
			return;
		}
		more = n == BUFFER || events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
	}
}

static void *loop(void *argument) {
	int listener = (int)(intptr_t)argument, epfd = epoll_create1(EPOLL_CLOEXEC);
	if (epfd < 0) die("epoll_create1");
	char *buffer = malloc(BUFFER);
	struct epoll_event events[EVENTS], e = {.events = EPOLLIN, .data.fd = listener};
	if (epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &e) < 0) die("epoll_ctl");
	for (;;) {
		int n = epoll_wait(epfd, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			if (fd != listener) {
				ready(epfd, fd, events[i].events, buffer);
				continue;
			}
			for (int k = 0; k < ACCEPTS; k++) {
				int c = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
				if (c < 0) break;
				watch(epfd, EPOLL_CTL_ADD, c);
			}
		}
	}
	return NULL;
}

int main(int argc, char **argv) {
	rests = calloc(descriptors(), sizeof *rests);
	if (!rests) die("calloc");
	return serve(argc, argv, SOCK_NONBLOCK, loop);
}
