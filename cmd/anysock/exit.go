package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/anysock/anysock"
)

// This file holds the exit statuses: what they mean, and which one an error
// or an ending gets. Everything that decides on a status asks here.

// The exit statuses.
const (
	exitOK          = 0
	exitSetup       = 1
	exitUsage       = 2
	exitName        = 3
	exitRefused     = 4
	exitHop         = 5
	exitAuth        = 6
	exitAborted     = 7
	exitLost        = 8
	exitVerify      = 9
	exitOutput      = 10
	exitStatusCount = 11
)

// exitMeanings is what 'anysock help exit' prints, by status.
var exitMeanings = [exitStatusCount]string{
	exitOK:      "graceful, delivered, or a signal followed by a clean drain",
	exitSetup:   "setup: an address in use or not ours, no permission, out of descriptors, interrupted before it began",
	exitUsage:   "usage: an unknown option or verb, an address that makes no sense",
	exitName:    "the host name was not found",
	exitRefused: "refused or unreachable; also a TCP connection that was reset before any byte came",
	exitHop:     "a proxy or another hop refused",
	exitAuth:    "TLS or authentication failed",
	exitAborted: "aborted or truncated: data may be missing; also a drain cut at its deadline or by a second signal",
	exitLost:    "lost or timed out: the peer or the path went silent, or an idle timeout passed",
	exitVerify:  "wrong or missing data, a false end or a hang: found by verify or bench",
	exitOutput:  "standard output is broken",
}

// exitOfKind is the status for a call that failed.
func exitOfKind(k anysock.Kind) int {
	switch k {
	case anysock.KindAddress:
		return exitUsage
	case anysock.KindName:
		return exitName
	case anysock.KindRefused, anysock.KindUnreachable:
		return exitRefused
	case anysock.KindHop:
		return exitHop
	case anysock.KindAuth:
		return exitAuth
	case anysock.KindReset, anysock.KindTruncated:
		return exitAborted
	case anysock.KindLost, anysock.KindTimeout:
		return exitLost
	}
	// What is left failed on our side, before there was a connection: other,
	// state, closed, canceled, in-use, permission, limit, unsupported.
	return exitSetup
}

// exitOfHow is the status for a connection that ended.
func exitOfHow(how anysock.How) int {
	switch how {
	case anysock.Graceful, anysock.Delivered:
		return exitOK
	case anysock.Refused:
		return exitRefused
	case anysock.Lost, anysock.Idle:
		return exitLost
	}
	// Aborted by either side, truncated, or not ended when we had to leave.
	return exitAborted
}

// exitOf is the status for what a verb returned; for several errors that of the
// first.
func exitOf(err error) int {
	if parts := joinedErrors(err); len(parts) > 0 {
		return exitOf(parts[0])
	}
	var (
		usage *usageError
		out   *outputError
		coded interface{ exitStatus() int }
		e     *anysock.Error
		addr  *anysock.AddressError
		wait  *anysock.WaitError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &out):
		return exitOutput
	case errors.As(err, &coded):
		return coded.exitStatus()
	case errors.As(err, &e):
		if e.Kind == anysock.KindUnreachable && isAboutUs(e) {
			return exitSetup
		}
		return exitOfKind(e.Kind)
	case errors.As(err, &addr):
		return exitUsage
	case errors.As(err, &wait):
		return exitOfWait(wait)
	case errors.Is(err, context.DeadlineExceeded):
		return exitLost
	}
	return exitSetup
}

// isAboutUs reports whether it is our own address that cannot be had, and not
// the peer's.
func isAboutUs(e *anysock.Error) bool {
	for ok := true; ok; ok = errors.As(e.Err, &e) {
		if e.Op == anysock.OpBind {
			return true
		}
	}
	return false
}

// exitOfWait is the status when connections were still closing at exit or had
// not delivered everything: that of the worst.
func exitOfWait(w *anysock.WaitError) int {
	status := exitOK
	for _, end := range w.Ends {
		if end.How == anysock.NotEnded {
			// Its bytes were not acknowledged within the bound.
			status = max(status, exitLost)
			continue
		}
		status = max(status, exitOfHow(end.How))
	}
	if status == exitOK {
		status = exitLost // endings that were not remembered, or none listed
	}
	return status
}

// exitTable is the list for 'anysock help exit'.
func exitTable() string {
	var b strings.Builder
	for status, meaning := range exitMeanings {
		fmt.Fprintf(&b, "  %2d  %s\n", status, meaning)
	}
	return b.String()
}

// A usageError is a command line that makes no sense.
type usageError struct {
	msg  string
	hint string // what to write instead
}

func (e *usageError) Error() string { return e.msg }

// An outputError is a standard output that takes no more.
type outputError struct{ err error }

func (e *outputError) Error() string { return "write standard output: " + cause(e.err).Error() }
func (e *outputError) Unwrap() error { return e.err }

// An inputError is a standard input that failed, which is not its end.
type inputError struct{ err error }

func (e *inputError) Error() string { return "read standard input: " + cause(e.err).Error() }
func (e *inputError) Unwrap() error { return e.err }
