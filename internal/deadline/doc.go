// Package deadline is the one deadline layer under the transports whose
// libraries lack proper deadlines: a passed deadline, or a cancelled context,
// ends a call and never the connection.
//
// Its one idea: whatever must not be interrupted happens where no deadline
// reaches it, and the caller waits for it in front of that. There are three
// shapes of it.
//
//   - A Carrier lies under a library that frames bytes (crypto/tls, a WebSocket
//     library). The library writes whole frames into its queue, which never
//     blocks and never fails because of time; the caller's deadline bounds only
//     the sending of the queue, and what is left then is sent later.
//   - A Lookout stands over a source that can wait in front of its library, because
//     it reads by itself and hands over what is there. The caller waits there
//     itself, by the deadline of the connection below; a goroutine does only
//     while there is no caller.
//   - A Reader and a Writer stand over a source or a sink that can only block,
//     with a goroutine that reads ahead or writes behind by a bounded buffer.
//
// The package imports the standard library only. It is not for connections
// that have deadlines of their own, such as kernel sockets.
package deadline
