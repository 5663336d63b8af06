//go:build linux

// TCP_INFO, read by the byte offsets of struct tcp_info in include/uapi/linux/tcp.h.
// The kernel only ever appends to that structure, so the offsets hold on every release.

package fact

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"unsafe"
)

// TCPInfo is the part of struct tcp_info that the notes use.
type TCPInfo struct {
	State        string
	Retransmits  int // @2: retransmission timeouts in a row
	Probes       int // @3: window or keep-alive probes in a row without an answer
	Backoff      int // @4: doublings of the timer
	RTO          int // @8: retransmission timeout in µs
	Unacked      int // @24: segments in flight
	LastDataSent int // @44: age in ms
	LastDataRecv int // @52: age in ms
	LastAckRecv  int // @56: age in ms
	TotalRetrans int // @100: segments sent again, ever
	SegsOut      int // @136: segments sent, ever, acknowledgements included
	SegsIn       int // @140: segments received, ever, acknowledgements included
	NotSent      int // @144: bytes not sent yet
	SndWnd       int // @228: the window the peer offers (since 5.4; -1 where the kernel is older)
}

var states = [...]string{
	"?", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2",
	"TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV",
}

// TCPInfo reads TCP_INFO. It does not consume a pending error.
func (r *Report) TCPInfo(fd int) TCPInfo {
	info, err := tcpInfo(fd)
	r.Must("read TCP_INFO", err)
	return info
}

// State is the TCP state of the socket.
func (r *Report) State(fd int) string { return r.TCPInfo(fd).State }

// WaitState waits until the socket is in the state and returns the state it has then.
func (r *Report) WaitState(fd int, state string) string {
	Until(func() bool { return r.State(fd) == state })
	return r.State(fd)
}

// Settle exchanges single bytes until fd's retransmission timeout is near its minimum of 200 ms. A machine
// that is slow while the connection is made leaves it with seconds, and every interval grows from there.
func (r *Report) Settle(fd, peer int) {
	settled := Until(func() bool {
		Send(fd, 1)
		Wait(peer, In, Patience)
		Recv(peer, 1)
		Until(func() bool { return r.OutQ(fd) == 0 })
		return r.TCPInfo(fd).RTO < 400_000
	})
	r.Expect("the retransmission timeout is below 400 ms", true, settled)
}

func tcpInfo(fd int) (TCPInfo, error) {
	var raw [256]byte
	size := uint32(len(raw))
	_, _, errno := syscall.Syscall6(sysGetsockopt, uintptr(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO,
		uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return TCPInfo{}, errno
	}
	u32 := func(at int) int { return int(binary.NativeEndian.Uint32(raw[at:])) }
	info := TCPInfo{
		State:        states[min(int(raw[0]), len(states)-1)],
		Retransmits:  int(raw[2]),
		Probes:       int(raw[3]),
		Backoff:      int(raw[4]),
		RTO:          u32(8),
		Unacked:      u32(24),
		LastDataSent: u32(44),
		LastDataRecv: u32(52),
		LastAckRecv:  u32(56),
		TotalRetrans: u32(100),
		SegsOut:      u32(136),
		SegsIn:       u32(140),
		NotSent:      u32(144),
		SndWnd:       -1,
	}
	if size >= 232 {
		info.SndWnd = u32(228)
	}
	return info, nil
}

func (i TCPInfo) String() string {
	return fmt.Sprintf("window %d, unacked %d, notsent %d, probes %d, retransmits %d, backoff %d, total_retrans %d, segs out %d in %d, last_ack_recv %d ms",
		i.SndWnd, i.Unacked, i.NotSent, i.Probes, i.Retransmits, i.Backoff, i.TotalRetrans, i.SegsOut, i.SegsIn, i.LastAckRecv)
}
