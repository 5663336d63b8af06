package bench

import "testing"

// TestRelaysSplice shows that what BenchmarkRelay compares does not pass
// through the memory of the process on either side. The bytes are a bulk
// transfer; how many of them recv may take first is bounded by what it takes
// at a time.
func TestRelaysSplice(t *testing.T) {
	const (
		size = 128 << 20
		// maxReceive is the most that one recv of a relay takes: what is
		// longer goes through splice (internal/sys).
		maxReceive = 16 << 10
		// maxCopied is how much may be copied all the same: what comes after
		// a pause begins with a recv.
		maxCopied = size / 5
	)
	t.Run("relay.Join", func(t *testing.T) {
		r := startRelay(t, "relay-join", countVariable+"=1")
		if err := r.exchange(size, 0); err != nil {
			t.Fatal(err)
		}
		c := r.w.usage(t).Calls
		t.Logf("%d splices, %d receives, %d sends for %d MiB", c.Splices, c.Receives, c.Sends, size>>20)
		if copied := c.Receives * maxReceive; copied > maxCopied || c.Splices == 0 {
			t.Errorf("up to %d of %d bytes were copied, and there were %d splices", copied, size, c.Splices)
		}
	})
	t.Run("io.Copy", func(t *testing.T) {
		r := startRelay(t, "relay-io.Copy", countVariable+"=1")
		if err := r.exchange(size, 0); err != nil {
			t.Fatal(err)
		}
		if read := r.w.usage(t).Calls.Read; read > maxCopied {
			t.Errorf("%d of %d bytes were read and written, not spliced", read, size)
		} else {
			t.Logf("%d bytes were read for %d MiB", read, size>>20)
		}
	})
}
