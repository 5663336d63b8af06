// This file lists the defects that the suite must find. Each is a connection,
// a listener or a transport with one method that does the wrong thing; those
// of connections are in defect_conns_test.go.

package socktest

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// defects are the defective transports.
func defects(t *testing.T) []defect {
	sockets := unix("unix", filepath.Join(t.TempDir(), "s"))
	pipe := wrapped("pipe", anysock.CapDeadline, netPipe)
	framing := framedTransport(healthy)
	return []defect{
		// Contract 1: what is no end.
		{
			name: "the end of file is said once", fails: one("contract01_02/end_follows_the_data"),
			wrap: func(c *anysock.Conn) conn { return &endOnce{Conn: c} },
		},
		{
			name: "Read takes a cut for an end", fails: one("contract01/cut_is_no_end"), tr: framing,
			wrap: func(c *anysock.Conn) conn { return cutIsEnd{c} },
		},
		{
			name: "Disconnect takes a cut for an end", fails: one("contract01_04/cut_is_no_graceful_disconnect"), tr: framing,
			wrap: func(c *anysock.Conn) conn { return cutIsGraceful{c} },
		},
		{
			name:  "the carrier says end of file when it is cut",
			fails: []string{"contract01/cut_is_no_end", "contract01_04/cut_is_no_graceful_disconnect"},
			why:   "everything that looks for the peer's end is deceived",
			tr:    framedTransport(func(f *framed) net.Conn { return &cutCarrier{framed: f} }),
		},

		// Contracts 1 and 6: aborts.
		{
			name: "a reset in the middle of a message is an end of file", fails: one("contract01_06/reset_seen_by_read"),
			wrap: func(c *anysock.Conn) conn { return resetIsEnd{c} },
		},
		{
			name: "Write calls a reset a close of ours", fails: one("contract01_06/reset_seen_by_write"),
			wrap: func(c *anysock.Conn) conn { return resetIsClose{c} },
		},
		{
			name: "Wait does not report a failed connection", fails: one("contract01_06/reset_seen_by_wait"),
			wrap: func(c *anysock.Conn) conn { return waitIgnoresReset{c} },
		},
		{
			name: "the selector does not report a failed connection", fails: one("contract01_06/reset_seen_by_selector"),
			selector: func() (selector, error) {
				s, err := anysock.NewSelector()
				return selectorIgnoresReset{s}, err
			},
		},
		{
			name: "Disconnect takes a reset for an end", fails: one("contract01_06/reset_seen_by_disconnect"),
			wrap: func(c *anysock.Conn) conn { return resetIsGraceful{c} },
		},
		{
			name: "the background close takes a reset for an end", fails: one("contract01_06/reset_seen_by_background_close"),
			wrap: func(c *anysock.Conn) conn { return &closeIgnoresReset{Conn: c} },
		},
		{
			name: "a second Abort is an error", fails: one("contract06_10/abort_is_our_ending"),
			wrap: func(c *anysock.Conn) conn { return &abortOnce{Conn: c} },
		},
		{
			name: "a copy does not notice Abort", fails: one("contract06_09/abort_frees_both_copies"),
			wrap: func(c *anysock.Conn) conn { return copyStaysBehind{c} },
		},
		{
			name: "Abort is a Close",
			fails: []string{
				"contract01_06/reset_seen_by_read", "contract01_06/reset_seen_by_wait", "contract01_06/reset_seen_by_selector",
				"contract01_06/reset_seen_by_disconnect", "contract01_06/reset_seen_by_background_close",
				"contract06_10/abort_is_our_ending", "contract05_10/abort_races", "contract12/abort_as_declared",
			},
			why:  "each of them looks for the reset at another place, or for our record of it",
			wrap: func(c *anysock.Conn) conn { return abortIsClose{c} },
		},

		// Contracts 2 and 5: Close.
		{
			name: "Close drops what is not sent", fails: one("contract02_05/a_lot_then_close_arrives"),
			wrap: func(c *anysock.Conn) conn { return &closeDrops{Conn: c} },
		},
		{
			name: "Close resets when data is unread", fails: one("contract02_05/close_with_unread_data"),
			wrap: func(c *anysock.Conn) conn { return closeLikeTheKernel{c} },
		},
		{
			name: "Close waits for the peer to read", fails: one("contract05/close_never_blocks"),
			wrap: func(c *anysock.Conn) conn { return &closeWaits{Conn: c} },
		},
		{
			name: "the Group is not asked", fails: one("contract05/group_waits_for_close"),
			tr: changedDial(func(d *anysock.Dialer) { d.Group = nil }),
		},
		{
			name: "Close wakes a Peek without an error", fails: one("contract05_08/close_wakes_callers"),
			wrap: func(c *anysock.Conn) conn { return peekForgetsClose{c} },
		},
		{
			name: "Close during Disconnect is an abort", fails: one("contract02_05/close_races"),
			wrap: func(c *anysock.Conn) conn { return &closeOverDisconnect{Conn: c} },
		},
		{
			name: "Abort does not wake Disconnect", fails: one("contract05_10/abort_races"),
			wrap: func(c *anysock.Conn) conn { return disconnectStaysBehind{c} },
		},

		// Contract 3: half-close.
		{
			name: "a second CloseWrite is an error", fails: one("contract03/half_close_both_ways"),
			wrap: func(c *anysock.Conn) conn { return &closeWriteOnce{Conn: c} },
		},
		{
			name: "half-close starts a clock", fails: one("contract03/reply_long_after_half_close"), pause: time.Second,
			wrap: func(c *anysock.Conn) conn { return halfCloseClock{c} },
		},
		{
			name: "half-close past a deadline never comes", fails: one("contract03_08/half_close_past_a_deadline"),
			wrap: func(c *anysock.Conn) conn { return &halfCloseForgotten{Conn: c} },
		},
		{
			name: "a copy loses its last piece", fails: one("contract03_12/copy_keeps_half_close"),
			wrap: func(c *anysock.Conn) conn { return copyLosesTail{c} },
		},
		{
			name: "half-close closes both directions",
			fails: []string{
				"contract03/half_close_both_ways", "contract03/reply_long_after_half_close", "contract03_12/copy_keeps_half_close",
				"contract03_08/half_close_past_a_deadline", "contract04/disconnect_second", "contract07/write_after_half_close",
			},
			why:  "each of them has something come in after it",
			wrap: func(c *anysock.Conn) conn { return halfCloseIsClose{c} },
		},

		// Contract 4: Disconnect.
		{
			name: "Disconnect says that the peer was first", fails: one("contract04/disconnect_first"),
			wrap: func(c *anysock.Conn) conn { return blamesPeer{c} },
		},
		{
			name: "Disconnect drops what is not sent after the peer's end", fails: one("contract04/disconnect_second"),
			wrap: func(c *anysock.Conn) conn { return disconnectDrops{c} },
		},
		{
			name: "drained bytes are not counted", fails: one("contract04/disconnect_both_at_once"),
			wrap: func(c *anysock.Conn) conn { return drainsUncounted{c} },
		},
		{
			name: "DrainBytes is ignored", fails: one("contract04_09/disconnect_bounds_a_flood"),
			tr: changedDial(func(d *anysock.Dialer) { d.Options.DrainBytes = 0 }),
		},
		{
			name: "DrainTimeout is cut short", fails: one("contract04_09/disconnect_bounds_silence"),
			tr: changedDial(func(d *anysock.Dialer) { d.Options.DrainTimeout = min(d.Options.DrainTimeout, 1) }),
		},
		{
			name: "what is unacknowledged is claimed as delivered", fails: one("contract04/disconnect_counts_what_is_unacknowledged"),
			wrap: func(c *anysock.Conn) conn { return &claimsDelivery{Conn: c} },
		},
		{
			name: "little that the peer's program has not read is claimed as delivered", fails: one("contract04/peer_acknowledges_what_it_reads"),
			tr:   lcOverTCP(),
			wrap: func(c *anysock.Conn) conn { return claimsALittle{c} },
		},

		// Contract 7: calls that make no sense.
		{
			name: "Write after CloseWrite seems to work", fails: one("contract07/write_after_half_close"),
			wrap: func(c *anysock.Conn) conn { return &writesIntoTheVoid{Conn: c} },
		},
		{
			name: "CloseRead after Close seems to work", fails: one("contract07/calls_after_close"),
			wrap: func(c *anysock.Conn) conn { return closeReadSilent{c} },
		},
		{
			name: "a second Close of a listener is an error", fails: one("contract07/calls_after_listener_close"),
			listener: func(l *anysock.Listener) listener { return &closeListenerOnce{Listener: l} },
		},
		{
			name: "a refused dial does not say the step", fails: one("contract07/nobody_listens"),
			tr: vagueDial(),
		},

		// Contract 8: cancelling and deadlines.
		{
			name: "a cancelled read drops what it has received", fails: one("contract08/cancelled_read"),
			wrap: func(c *anysock.Conn) conn { return readDropsOnCancel{c} },
		},
		{
			name: "a cancelled ReadAtLeast forgets its count", fails: one("contract08/cancelled_read_at_least"),
			wrap: func(c *anysock.Conn) conn { return readAtLeastForgets{c} },
		},
		{
			name: "a cancelled write forgets its count", fails: one("contract08/cancelled_write"),
			wrap: func(c *anysock.Conn) conn { return writeForgets{c} },
		},
		{
			name: "a cancelled Wait takes a byte", fails: one("contract08/cancelled_wait"),
			wrap: func(c *anysock.Conn) conn { return &waitTakes{Conn: c} },
		},
		{
			name: "a cancelled accept drops the next connection", fails: one("contract08/cancelled_accept"),
			listener: func(l *anysock.Listener) listener { return acceptDrops{l} },
		},
		{
			name: "a cancelled Disconnect is an abort", fails: one("contract08/cancelled_disconnect"),
			wrap: func(c *anysock.Conn) conn { return disconnectGivesUp{c} },
		},
		{
			name: "a cancelled read clears the deadline", fails: one("contract08/cancel_restores_deadlines"),
			wrap: func(c *anysock.Conn) conn { return cancelClears{c} },
		},
		{
			name: "a deadline cannot be put off", fails: one("contract08/deadline_reuse"),
			wrap: func(c *anysock.Conn) conn { return &deadlineSticks{Conn: c} },
		},
		{
			name: "a short write has no error", fails: one("contract02_08/short_write_has_an_error"),
			wrap: func(c *anysock.Conn) conn { return shortWriteSilent{c} },
		},
		{
			name: "Peek consumes", fails: one("contract08/wait_consumes_nothing"),
			wrap: func(c *anysock.Conn) conn { return peekConsumes{c} },
		},
		{
			name: "ReadAtLeast calls an early end a plain one", fails: one("contract08/read_at_least_is_exact"),
			wrap: func(c *anysock.Conn) conn { return earlyEndIsEnd{c} },
		},

		// Contract 9: bounds.
		{
			name: "more is buffered than declared", fails: one("contract09/writer_is_stopped"),
			tr: smallerBound(4 << 10),
		},
		{
			name: "ActiveRead reads only between handlers", fails: one("contract09/active_read_has_one_read_pending"),
			wrap: func(c *anysock.Conn) conn { return readsInTurn{c} },
		},
		{
			name: "a cancelled ActiveRead takes a byte", fails: one("contract02_09/active_read_keeps_the_rest"),
			wrap: func(c *anysock.Conn) conn { return activeReadTakes{c} },
		},

		// Contract 10: the ending.
		{
			name: "Abort after the end changes the record", fails: one("contract10/ending_is_set_once"),
			wrap: func(c *anysock.Conn) conn { return &endChanges{Conn: c} },
		},
		{
			name: "a read is traced after the end", fails: one("contract10/no_event_after_the_end"),
			tr: changedDial(func(d *anysock.Dialer) {
				if trace := d.Trace; trace != nil {
					d.Trace = func(ev anysock.Event) {
						trace(ev)
						if ev.Op == anysock.OpEnd {
							trace(anysock.Event{Socket: ev.Socket, Op: anysock.OpRead})
						}
					}
				}
			}),
		},

		// Contract 12: capabilities.
		{
			name: "a capability is not declared", fails: one("contract12/caps_as_declared"),
			wrap: func(c *anysock.Conn) conn { return declares{c, c.Caps() &^ anysock.CapBindSource} },
		},
		{
			name: "a half-close that cannot be seems to work", fails: one("contract12/half_close_as_declared"), tr: pipe,
			wrap: func(c *anysock.Conn) conn { return closeWriteSilent{c} },
		},
		{
			name: "an abort that cannot be seems to work", fails: one("contract12/abort_as_declared"), tr: sockets,
			wrap: func(c *anysock.Conn) conn { return abortSilent{c} },
		},
		{
			name: "an acknowledgement is claimed that cannot be", fails: one("contract12/acknowledgement_as_declared"), tr: sockets,
			wrap: func(c *anysock.Conn) conn { return claimsAck{c} },
		},
		{
			name: "a deadline works that is not declared", fails: one("contract12/deadline_as_declared"),
			tr:       withoutDeadlines(),
			wrap:     func(c *anysock.Conn) conn { return declares{c, c.Caps() &^ anysock.CapDeadline} },
			listener: func(l *anysock.Listener) listener { return listenerDeclares{l, l.Caps() &^ anysock.CapDeadline} },
		},
	}
}

func one(name string) []string { return []string{name} }

func netPipe(context.Context) (net.Conn, net.Conn, error) {
	a, b := net.Pipe()
	return a, b, nil
}

// changedDial is TCP that changes what Dial is asked for.
func changedDial(change func(d *anysock.Dialer)) Transport {
	tr := tcp("tcp4", "127.0.0.1")
	dial := tr.Dial
	tr.Dial = func(ctx context.Context, d *anysock.Dialer, ln *anysock.Listener) (*anysock.Conn, error) {
		own := *d
		change(&own)
		return dial(ctx, &own, ln)
	}
	return tr
}

// vagueDial is TCP whose errors say nothing.
func vagueDial() Transport {
	tr := tcp("tcp4", "127.0.0.1")
	dial := tr.Dial
	tr.Dial = func(ctx context.Context, d *anysock.Dialer, ln *anysock.Listener) (*anysock.Conn, error) {
		c, err := dial(ctx, d, ln)
		if err != nil {
			return nil, errors.New("it did not work")
		}
		return c, nil
	}
	return tr
}

// smallerBound is TCP that promises to buffer less.
func smallerBound(most int64) Transport {
	tr := tcp("tcp4", "127.0.0.1")
	tr.MaxBuffered = most
	return tr
}

// withoutDeadlines is TCP that says it has none.
func withoutDeadlines() Transport {
	tr := tcp("tcp4", "127.0.0.1")
	tr.Caps &^= anysock.CapDeadline
	return tr
}

// cutCarrier is a framing that does not tell a cut from an end.
type cutCarrier struct{ *framed }

func (c *cutCarrier) Read(p []byte) (int, error) {
	n, err := c.framed.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

type selectorIgnoresReset struct{ *anysock.Selector }

func (s selectorIgnoresReset) Wait(ctx context.Context) ([]anysock.Selection, error) {
	ready, err := s.Selector.Wait(ctx)
	if len(ready) > 0 && ready[0].Ready&(anysock.Failed|anysock.HungUp) != 0 {
		ready = nil
	}
	return ready, err
}

type listenerDeclares struct {
	*anysock.Listener
	caps anysock.Caps
}

func (l listenerDeclares) Caps() anysock.Caps { return l.caps }

type closeListenerOnce struct {
	*anysock.Listener
	closed bool
}

func (l *closeListenerOnce) Close() error {
	if l.closed {
		return net.ErrClosed
	}
	l.closed = true
	return l.Listener.Close()
}

type acceptDrops struct{ *anysock.Listener }

func (l acceptDrops) AcceptContext(ctx context.Context) (*anysock.Conn, error) {
	c, err := l.Listener.AcceptContext(ctx)
	if errors.Is(err, context.Canceled) {
		soon, cancel := context.WithTimeout(context.Background(), quietTime)
		defer cancel()
		if c, err := l.Listener.AcceptContext(soon); err == nil {
			_ = c.Abort()
		}
	}
	return c, err
}
