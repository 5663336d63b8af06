package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/anysock/anysock"
)

func TestExitOfKind(t *testing.T) {
	t.Parallel()
	want := map[anysock.Kind]int{
		anysock.KindOther: 1, anysock.KindAddress: 2, anysock.KindState: 1, anysock.KindClosed: 1,
		anysock.KindCanceled: 1, anysock.KindTimeout: 8, anysock.KindName: 3, anysock.KindRefused: 4,
		anysock.KindUnreachable: 4, anysock.KindInUse: 1, anysock.KindPermission: 1, anysock.KindLimit: 1,
		anysock.KindUnsupported: 1, anysock.KindReset: 7, anysock.KindTruncated: 7, anysock.KindLost: 8,
		anysock.KindHop: 5, anysock.KindAuth: 6,
	}
	known := 0
	for k := anysock.Kind(0); !strings.HasPrefix(k.String(), "Kind("); k++ {
		known++
		status, ok := want[k]
		if !ok {
			t.Errorf("%s: this test does not know its status", k)
		}
		if got := exitOfKind(k); got != status {
			t.Errorf("%s: status %d, want %d", k, got, status)
		}
	}
	if known != len(want) {
		t.Errorf("there are %d kinds, the test knows %d", known, len(want))
	}
}

func TestExitOfHow(t *testing.T) {
	t.Parallel()
	want := map[anysock.How]int{
		anysock.NotEnded: 7, anysock.Graceful: 0, anysock.Delivered: 0, anysock.AbortedByUs: 7,
		anysock.AbortedByPeer: 7, anysock.Truncated: 7, anysock.Lost: 8, anysock.Idle: 8, anysock.Refused: 4,
	}
	known := 0
	for h := anysock.How(0); !strings.HasPrefix(h.String(), "How("); h++ {
		known++
		status, ok := want[h]
		if !ok {
			t.Errorf("%s: this test does not know its status", h)
		}
		if got := exitOfHow(h); got != status {
			t.Errorf("%s: status %d, want %d", h, got, status)
		}
	}
	if known != len(want) {
		t.Errorf("there are %d ways to end, the test knows %d", known, len(want))
	}
}

func TestExitOf(t *testing.T) {
	t.Parallel()
	kind := func(k anysock.Kind) error { return &anysock.Error{Op: anysock.OpConnect, Addr: "tcp:x", Kind: k} }
	for name, test := range map[string]struct {
		err  error
		want int
	}{
		"nothing":                 {nil, exitOK},
		"anything":                {errors.New("anything"), exitSetup},
		"usage":                   {&usageError{msg: "x"}, exitUsage},
		"usage, wrapped":          {fmt.Errorf("x: %w", &usageError{msg: "x"}), exitUsage},
		"an address":              {&anysock.AddressError{Msg: "x"}, exitUsage},
		"a kind":                  {kind(anysock.KindName), exitName},
		"a kind, wrapped":         {fmt.Errorf("x: %w", kind(anysock.KindHop)), exitHop},
		"no route":                {kind(anysock.KindUnreachable), exitRefused},
		"not our address":         {&anysock.Error{Op: anysock.OpBind, Kind: anysock.KindUnreachable}, exitSetup},
		"not our local address":   {&anysock.Error{Op: anysock.OpConnect, Kind: anysock.KindUnreachable, Err: &anysock.Error{Op: anysock.OpBind}}, exitSetup},
		"broken output":           {&outputError{syscall.EPIPE}, exitOutput},
		"broken input":            {&inputError{syscall.EIO}, exitSetup},
		"an ending":               {&endError{end: anysock.End{How: anysock.Lost}, status: exitLost}, exitLost},
		"an ending with a reason": {&endError{end: anysock.End{How: anysock.AbortedByPeer, Err: kind(anysock.KindReset)}, status: exitRefused}, exitRefused},
		"a failure":               {&failure{err: kind(anysock.KindReset), status: exitRefused}, exitRefused},
		"a deadline":              {fmt.Errorf("x: %w", context.DeadlineExceeded), exitLost},
		"the first of two":        {errors.Join(kind(anysock.KindAuth), kind(anysock.KindName)), exitAuth},
		"still closing":           {&anysock.WaitError{Pending: 1, Ends: []anysock.End{{}}}, exitLost},
		"closed, not delivered":   {&anysock.WaitError{Incomplete: 1, Ends: []anysock.End{{How: anysock.Delivered}, {How: anysock.AbortedByPeer}}}, exitAborted},
		"the worst":               {&anysock.WaitError{Incomplete: 2, Ends: []anysock.End{{How: anysock.Lost}, {How: anysock.AbortedByPeer}}}, exitLost},
		"not remembered":          {&anysock.WaitError{More: 1}, exitLost},
	} {
		if got := exitOf(test.err); got != test.want {
			t.Errorf("%s: status %d, want %d", name, got, test.want)
		}
	}
}

func TestExitTableListsEveryStatus(t *testing.T) {
	t.Parallel()
	lines := strings.Split(strings.TrimRight(exitTable(), "\n"), "\n")
	if len(lines) != exitStatusCount {
		t.Fatalf("%d lines for %d statuses", len(lines), exitStatusCount)
	}
	for status, line := range lines {
		var n int
		var word string
		if _, err := fmt.Sscanf(line, "%d %s", &n, &word); err != nil || n != status {
			t.Errorf("line %d does not explain its status: %q", status, line)
		}
	}
}

func TestErrorsOfStandardStreamsHaveNoFileName(t *testing.T) {
	t.Parallel()
	err := &outputError{&fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.EPIPE}}
	if got, want := err.Error(), "write standard output: broken pipe"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if !errors.Is(err, syscall.EPIPE) {
		t.Error("the cause is lost")
	}
}
