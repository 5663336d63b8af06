package all_test

import (
	"errors"
	"io"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

// TestWebSocketThatHasEndedTakesNothing: a WebSocket's end is the end of both
// directions. A relay that has more for it tells the other leg that its bytes
// were not taken, and says by whom.
func TestWebSocketThatHasEndedTakesNothing(t *testing.T) {
	ctx := bounded(t)
	pair := func(address string) (dialed, accepted *anysock.Conn) {
		t.Helper()
		ln, err := anysock.Listen(ctx, address)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		got := make(chan *anysock.Conn, 1)
		go func() {
			c, _ := ln.AcceptContext(ctx)
			got <- c
		}()
		if dialed, err = anysock.Dial(ctx, address); err != nil {
			t.Fatal(err)
		}
		if accepted = <-got; accepted == nil {
			t.Fatal("nothing was accepted")
		}
		t.Cleanup(func() {
			_ = dialed.Abort()
			_ = accepted.Abort()
		})
		return dialed, accepted
	}
	client, inbound := pair("ws+mem:ended-in")
	outbound, server := pair("mem:ended-out")
	records := make(chan relay.Record, 1)
	go func() { records <- relay.Join(ctx, inbound, outbound, relay.Options{}) }()

	if end, err := client.Disconnect(ctx); err != nil || !end.How.Complete() {
		t.Fatalf("the client's ending is %s, %v", end, err)
	}
	if _, err := io.ReadAll(server); err != nil {
		t.Fatalf("the server reads to the end: %v", err)
	}
	for err := error(nil); err == nil; {
		_, err = server.Write(make([]byte, 1<<16)) // nobody will read this
		if err != nil {
			var e *anysock.Error
			if !errors.As(err, &e) || e.Kind != anysock.KindReset {
				t.Errorf("the server is told %v", err)
			}
		}
	}
	if r := <-records; r.How != anysock.AbortedByPeer || r.By != relay.Inbound {
		t.Errorf("the record says %s by %s: %v", r.How, r.By, r.Err)
	}
}
