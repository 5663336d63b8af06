// Package proxy has SOCKS5 (RFC 1928, RFC 1929), SOCKS4, SOCKS4a and HTTP
// CONNECT (RFC 9110 section 9.3.6), on both sides: as hops of an address, and
// as a Server that speaks all of them on one port.
//
// Import it to register the hops:
//
//	socks5://proxy:1080,tcp://db:5432                        the proxy finds db
//	socks5://ann@proxy:1080?pass=env:PROXY_PASS,tcp://db:5432
//	socks4a://proxy:1080,tcp://db:5432                       a name, by SOCKS4's extension
//	socks4://proxy:1080,tcp://10.0.0.7:5432                  IPv4 addresses alone
//	http://proxy:8080?header=X-Team:%20blue,tls://db:5432    CONNECT, then TLS with db
//	https://ann@proxy:443?pass=file:/run/pass,tcp://db:5432  CONNECT over TLS (http+tls)
//	socks5+tls://proxy:1080,socks5://inner:1080,tcp://db:5432
//
// Options of a hop: pass (socks5, http) says where the password of the user
// before the @ is, env:NAME or file:PATH. resolve (socks5, socks4a, http) is
// remote, so that the proxy finds the address of a host name, or local, so that
// this side does; socks4 has no names and resolves here always. header (http,
// may be repeated) adds a field to the request. SOCKS4 sends the user as its
// user ID, which proves nothing. A password travels as it is, or as good as
// that (Basic): speak to the proxy over TLS or another hop where somebody may
// listen.
//
// A proxy reaches TCP alone: tcp, tcp4 and tcp6 stand behind it, and the layers
// over them. The exchange is bounded as every handshake (10 s). It takes the
// bytes of the answer and not one more, so that what the target says first is
// not lost, and the stream is then the connection to the proxy itself: between
// kernel sockets data is spliced as without a proxy, and a connection's
// endings, counts and capabilities are those of that connection. Whether an end
// or a reset passes through, and which address the peer sees, is up to the
// proxy; the Server of this package passes them on. RemoteAddr is the proxy's.
//
// A refusal is an *anysock.Error of KindHop, or KindAuth where the proxy wants
// to know who we are, with a RefusalError inside that has the proxy's code.
//
// # Listening behind a proxy
//
// BIND has the proxy listen on its side, for one connection, for protocols in
// which a server calls its client back:
//
//	socks5://proxy:1080,tcp://:0?peer=server
//
// The Listener's Addr is where the proxy listens. Accept waits for the caller,
// once: the second says net.ErrClosed. The port is the proxy's choice. peer
// says who may call, a host or host:port; many proxies demand it. The proxy
// judges it, and an address is compared here once more. An accepted
// connection's RemoteAddr is the caller's, as the proxy tells it. Listening
// through HTTP is not possible.
//
// # Who should not use it
//
// Nothing here caches, filters or looks into HTTP, and there is no UDP. A
// program that speaks HTTP alone is better served by http.Transport's Proxy.
package proxy
