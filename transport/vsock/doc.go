// Package vsock connects virtual machines and their host (vsock(7)). Import it
// to register the transport vsock:
//
//	vsock://3:1024         port 1024 of the virtual machine with context identifier 3
//	vsock://2:1024         port 1024 of the host, seen from a guest
//	vsock://1:1024         this machine (needs the kernel's vsock_loopback)
//	vsock://:1024          listening: every context identifier of this machine;
//	                       connecting: this machine
//	vsock://:0             listening: any free port, see Listener.Addr
//
// Options for listening: backlog, maxconns. For connecting: timeout. A full
// queue refuses: vsock has nothing that makes a client wait.
//
// It is for a guest and its host without a network between them. Between two
// machines use tcp: the kernel connects no guest to another, unless the
// hypervisor does it.
//
// # Endings
//
// A stream is a kernel socket with the calls of tcp and fewer endings (Linux,
// net/vmw_vsock/virtio_transport_common.c):
//
//	CloseWrite      SHUTDOWN with the flag for sending: the peer reads the end
//	Close, Abort    SHUTDOWN with both flags: the peer reads the end too,
//	                whatever SO_LINGER says
//	a reset (RST)   on a stream that stood, as a restarted guest sends it:
//	                reads return the end of file
//	the virtual     ECONNRESET, from the host's vhost driver and from a
//	machine is gone guest's virtio driver
//
// So Caps are half-close and deadlines. An abort cannot be told from an end,
// and not every cut either: put lc over it (lc+vsock://3:1024) where the
// ending matters. Nothing is acknowledged in a way that could be asked for.
//
// Only Linux has it here; elsewhere the calls say errors.ErrUnsupported.
package vsock
