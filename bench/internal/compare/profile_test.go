//go:build linux

package compare

import (
	"maps"
	"strings"
	"testing"
)

// What perf script prints, cut short.
const samples = `
	ffffffffa6a9b3f0 tcp_sendmsg ([kernel.kallsyms])
	ffffffffa69a0d2c __sys_sendto ([kernel.kallsyms])
	ffffffffa69a0e90 __x64_sys_sendto ([kernel.kallsyms])
	ffffffffa6d2a1b4 do_syscall_64 ([kernel.kallsyms])
	          4010ee syscall.RawSyscall6.abi0 (/tmp/server with space)
	          4aa0ee main.(*sys_x).run (/tmp/server with space)

	ffffffffa6a9b3f0 vfs_read ([kernel.kallsyms])
	ffffffffa69a0d2c ksys_read ([kernel.kallsyms])
	ffffffffa6d2a1b4 do_syscall_64 ([kernel.kallsyms])

	ffffffffc0a9b3f0 ipt_do_table ([ip_tables])
	ffffffffa69a0d2c do_writev ([kernel.kallsyms])

	ffffffffa6a9b3f0 asm_sysvec_apic_timer_interrupt ([kernel.kallsyms])
	          4010ee main.run (/tmp/server)

	          4010ee runtime.mallocgc (/tmp/server)
	          4010ee main.run (/tmp/server)

	          4010ee main.run (/tmp/server)

	    7ffd4a5ea6b7 __vdso_clock_gettime ([vdso])
`

func TestParseSamples(t *testing.T) {
	p, err := parseSamples([]byte(samples))
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]int{"sendto": 1, "read": 1, "writev": 1}; !maps.Equal(p.Calls, want) {
		t.Errorf("system calls %v, want %v", p.Calls, want)
	}
	if p.Samples != 7 || p.Kernel != 1 || p.Runtime != 1 || p.Program != 2 {
		t.Errorf("%+v", p)
	}
	p.Candidate = "server"
	const want = "| server | 43 % | read 14 %, sendto 14 %, writev 14 % | 14 % | 14 % | 29 % |"
	if table := ProfileTable(Work{Title: "a work"}, []Profile{p}); !strings.Contains(table, want) {
		t.Errorf("%s lacks %s", table, want)
	}
	if _, err := parseSamples([]byte("\n\n")); err == nil {
		t.Error("no samples are a profile")
	}
}
