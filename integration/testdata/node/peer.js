// A WebSocket client and server for the tests, on npm's ws. It prints a line of
// JSON for each thing that happens.
//
//   node peer.js serve MODE [ARG]   listens on a free port of loopback
//   node peer.js dial URL MODE [ARG]
//
// MODE says what happens on the connection, on either side:
//
//   echo N       sends N bytes in messages of many sizes, some in fragments,
//                wants them back, pings once, and closes with 1000
//   return N     sends back what comes, in fragments, and closes with 1000
//                after N bytes
//   close CODE   sends "hello", waits for "bye" and closes with the code
//   destroy      sends "hello", waits for "bye" and drops the connection
//   cut          the same, in the middle of a frame
//   text         sends a text message
//   wait         reads until the peer ends

'use strict'
const crypto = require('crypto')
const fs = require('fs')
const { WebSocket, WebSocketServer } = require('ws')

const say = (o) => process.stdout.write(JSON.stringify(o) + '\n')

// data is the n bytes that both sides know.
function data (n) {
  const block = Buffer.alloc(1 << 16)
  for (let i = 0; i < block.length; i++) block[i] = (i * 7 + (i >> 8)) & 0xff
  return Buffer.concat(Array(Math.floor(n / block.length) + 1).fill(block)).subarray(0, n)
}

const modes = {
  echo (ws, arg) {
    const all = data(Number(arg))
    let sent = 0
    let size = 1
    let back = Buffer.alloc(0)
    let pong = false
    const finish = () => {
      if (back.length < all.length || !pong) return
      say({ echoed: back.length, same: back.equals(all), pong })
      ws.close(1000, 'done')
    }
    ws.on('message', (m) => { back = Buffer.concat([back, m]); finish() })
    ws.on('pong', (m) => { pong = m.toString() === 'are you there?'; finish() })
    ws.ping('are you there?')
    while (sent < all.length) {
      const message = all.subarray(sent, sent + size)
      sent += message.length
      if (size % 3 === 0) {
        const half = message.length >> 1
        ws.send(message.subarray(0, half), { binary: true, fin: false })
        ws.send(message.subarray(half), { binary: true, fin: true })
      } else {
        ws.send(message)
      }
      size = (size * 3 + 1) % 150000
    }
  },
  return (ws, arg) {
    let n = 0
    let largest = 0
    ws.on('message', (m, binary) => {
      largest = Math.max(largest, m.length)
      if (!binary) say({ text: true })
      ws.send(m.subarray(0, 1), { binary: true, fin: false })
      ws.send(m.subarray(1), { binary: true, fin: true })
      n += m.length
      if (n === Number(arg)) {
        say({ returned: n, largest })
        ws.close(1000)
      }
    })
  },
  close (ws, arg) {
    hello(ws, () => ws.close(Number(arg), 'so it is'))
  },
  destroy (ws) {
    hello(ws, () => ws.terminate())
  },
  cut (ws) {
    hello(ws, (socket) => {
      socket.write(Buffer.from([0x82, 0x7e, 0x10, 0x00, 1, 2, 3]))
      socket.end()
    })
  },
  text (ws) {
    ws.send('text')
  },
  wait (ws) {
    const hash = crypto.createHash('sha256')
    let n = 0
    ws.on('message', (m) => { n += m.length; hash.update(m) })
    ws.on('close', () => say({ received: n, sha256: hash.digest('hex') }))
  }
}

function hello (ws, then) {
  ws.send(Buffer.from('hello'))
  ws.on('message', (m) => { if (m.toString().trim() === 'bye') then(ws._socket) })
}

function watch (ws) {
  ws.on('close', (code, reason) => say({ closed: code, reason: reason.toString() }))
  ws.on('error', (e) => say({ error: e.message }))
}

const [what, ...rest] = process.argv.slice(2)
if (what === 'serve') {
  const [mode, arg] = rest
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
  server.on('listening', () => say({ host: '127.0.0.1', port: server.address().port }))
  server.on('connection', (ws, req) => {
    say({ path: req.url, host: req.headers.host, header: req.headers['x-test'] || '' })
    watch(ws)
    modes[mode](ws, arg)
    server.close()
  })
} else {
  const [url, mode, arg] = rest
  const ca = process.env.TEST_CA
  const ws = new WebSocket(url, { ca: ca && fs.readFileSync(ca), origin: process.env.TEST_ORIGIN })
  ws.on('unexpected-response', (req, res) => {
    say({ status: res.statusCode })
    req.destroy()
  })
  watch(ws)
  ws.on('open', () => {
    say({ open: true, extensions: ws.extensions })
    modes[mode](ws, arg)
  })
}
