// This file holds what a case is, the list of all cases, and how one is run.

package socktest

import (
	"context"
	"errors"

	"github.com/anysock/anysock"
)

// A testCase is one behaviour of a transport. Its name begins with the
// numbers of the guarantees that ask for it.
type testCase struct {
	name  string
	needs anysock.Caps // without them the case makes no sense
	hook  hook         // without it the case is skipped
	run   func(k *kit)
}

// A hook is what a case needs of a Transport beside connected pairs.
type hook int

const (
	hookNone      hook = iota
	hookListen         // Listen and Dial
	hookCutPair        // CutPair
	hookAckedPeer      // AckedBy is AckedPeer
)

const (
	halfClose = anysock.CapHalfClose
	abort     = anysock.CapAbort
	deadlines = anysock.CapDeadline
)

// cases are the suite. Contract 11 is package relay's.
var cases = []testCase{
	{name: "contract01_02/end_follows_the_data", run: endFollowsTheData},
	{name: "contract01/cut_is_no_end", needs: anysock.CapCutDetect, hook: hookCutPair, run: cutIsNoEnd},
	{name: "contract01_04/cut_is_no_graceful_disconnect", needs: anysock.CapCutDetect | halfClose, hook: hookCutPair, run: cutIsNoGracefulDisconnect},

	{name: "contract01_06/reset_seen_by_read", needs: abort, run: resetSeenByRead},
	{name: "contract01_06/reset_seen_by_write", needs: abort, run: resetSeenByWrite},
	{name: "contract01_06/reset_seen_by_wait", needs: abort, run: resetSeenByWait},
	{name: "contract01_06/reset_seen_by_selector", needs: abort, run: resetSeenBySelector},
	{name: "contract01_06/reset_seen_by_disconnect", needs: abort | halfClose, run: resetSeenByDisconnect},
	{name: "contract01_06/reset_seen_by_background_close", needs: abort | halfClose, run: resetSeenByBackgroundClose},
	{name: "contract06_10/abort_is_our_ending", run: abortIsOurEnding},
	{name: "contract06_09/abort_frees_both_copies", run: abortFreesBothCopies},

	{name: "contract02_05/a_lot_then_close_arrives", run: aLotThenCloseArrives},
	{name: "contract02_05/close_with_unread_data", needs: halfClose, run: closeWithUnreadData},
	{name: "contract05/close_never_blocks", run: closeNeverBlocks},
	{name: "contract05/group_waits_for_close", needs: halfClose, hook: hookListen, run: groupWaitsForClose},
	{name: "contract05_08/close_wakes_callers", needs: deadlines, run: closeWakesCallers},
	{name: "contract02_05/close_races", needs: halfClose, run: closeRaces},
	{name: "contract05_10/abort_races", run: abortRaces},

	{name: "contract03/half_close_both_ways", needs: halfClose, run: halfCloseBothWays},
	{name: "contract03/reply_long_after_half_close", needs: halfClose, run: replyLongAfterHalfClose},
	{name: "contract03_08/half_close_past_a_deadline", needs: halfClose | deadlines, run: halfClosePastADeadline},
	{name: "contract03_12/copy_keeps_half_close", needs: halfClose, run: copyKeepsHalfClose},

	{name: "contract04/disconnect_first", needs: halfClose, run: disconnectFirst},
	{name: "contract04/disconnect_second", needs: halfClose, run: disconnectSecond},
	{name: "contract04/disconnect_both_at_once", needs: halfClose, run: disconnectBothAtOnce},
	{name: "contract04_09/disconnect_bounds_a_flood", needs: halfClose, run: disconnectBoundsAFlood},
	{name: "contract04_09/disconnect_bounds_silence", needs: halfClose, run: disconnectBoundsSilence},
	{name: "contract04/disconnect_counts_what_is_unacknowledged", needs: halfClose | deadlines, run: disconnectCountsWhatIsUnacknowledged},

	{name: "contract04/peer_acknowledges_what_it_reads", needs: halfClose | anysock.CapCloseAck, hook: hookAckedPeer, run: peerAcknowledgesWhatItReads},

	{name: "contract07/write_after_half_close", needs: halfClose, run: writeAfterHalfClose},
	{name: "contract07/calls_after_close", run: callsAfterClose},
	{name: "contract07/calls_after_listener_close", hook: hookListen, run: callsAfterListenerClose},
	{name: "contract07/nobody_listens", hook: hookListen, run: nobodyListens},

	{name: "contract08/cancelled_read", needs: deadlines, run: cancelledRead},
	{name: "contract08/cancelled_read_at_least", needs: deadlines, run: cancelledReadAtLeast},
	{name: "contract08/cancelled_write", needs: deadlines, run: cancelledWrite},
	{name: "contract08/cancelled_wait", needs: deadlines, run: cancelledWait},
	{name: "contract08/cancelled_accept", needs: deadlines, hook: hookListen, run: cancelledAccept},
	{name: "contract08/cancelled_disconnect", needs: deadlines | halfClose, run: cancelledDisconnect},
	{name: "contract08/cancel_restores_deadlines", needs: deadlines, run: cancelRestoresDeadlines},
	{name: "contract08/deadline_reuse", needs: deadlines, run: deadlineReuse},
	{name: "contract02_08/short_write_has_an_error", needs: deadlines, run: shortWriteHasAnError},

	{name: "contract08/wait_consumes_nothing", needs: deadlines, run: waitConsumesNothing},
	{name: "contract08/read_at_least_is_exact", run: readAtLeastIsExact},

	{name: "contract09/writer_is_stopped", run: writerIsStopped},
	{name: "contract09/active_read_has_one_read_pending", run: activeReadHasOneReadPending},
	{name: "contract02_09/active_read_keeps_the_rest", run: activeReadKeepsTheRest},

	{name: "contract10/ending_is_set_once", run: endingIsSetOnce},
	{name: "contract10/no_event_after_the_end", hook: hookListen, run: noEventAfterTheEnd},

	{name: "contract12/caps_as_declared", run: capsAsDeclared},
	{name: "contract12/half_close_as_declared", run: halfCloseAsDeclared},
	{name: "contract12/abort_as_declared", run: abortAsDeclared},
	{name: "contract12/acknowledgement_as_declared", run: acknowledgementAsDeclared},
	{name: "contract12/deadline_as_declared", run: deadlineAsDeclared},
}

// A suite is a Transport with the sizes of a run, and with the places where
// the suite's own test puts a defect in.
type suite struct {
	Transport
	testSizes

	wrap         func(*anysock.Conn) conn
	wrapListener func(*anysock.Listener) listener
	newSelector  func() (selector, error)
}

// validate reports what a Transport lacks.
func (s *suite) validate() error {
	switch {
	case s.Name == "":
		return errors.New("socktest: a Transport needs a Name")
	case s.AckedBy != anysock.AckedNone && !s.Caps.Has(anysock.CapCloseAck):
		return errors.New("socktest: a Transport with AckedBy needs CapCloseAck")
	case (s.Listen == nil) != (s.Dial == nil):
		return errors.New("socktest: a Transport needs both Listen and Dial, or neither")
	case s.Listen == nil && s.Pair == nil:
		return errors.New("socktest: a Transport needs Listen and Dial, or Pair")
	}
	return nil
}

// applies reports whether the case makes sense for what is declared.
func (s *suite) applies(c testCase) bool {
	return s.Caps.Has(c.needs) && (c.hook != hookAckedPeer || s.AckedBy == anysock.AckedPeer)
}

// run runs c within its bound, and releases what it made.
func (s *suite) run(t tester, c testCase) {
	t.Helper()
	switch {
	case c.hook == hookListen && s.Listen == nil:
		t.Skipf("%s has no Listen hook: its connections come in pairs", s.Name)
	case !s.applies(c): // TestTransport leaves it out
		t.Skipf("%s declares %s, acknowledged by %s", s.Name, s.Caps, s.AckedBy)
	case c.hook == hookCutPair && s.CutPair == nil:
		t.Skipf("%s has no CutPair hook: nothing under it can be cut without its ends", s.Name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.bound)
	defer cancel()
	k := &kit{tester: t, suite: s, ctx: ctx}
	stop := context.AfterFunc(ctx, k.abandon)
	defer func() {
		if !stop() {
			k.Errorf("not finished within %s", s.bound)
		}
		k.release()
	}()
	c.run(k)
}
