// SPDX-License-Identifier: Apache-2.0

package output

import (
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// timeLayout always has nine digits: lines sort as text, and no reader needs two patterns.
const timeLayout = "2006-01-02T15:04:05.000000000Z"

// appendTime adds a point in time; the zero time is not known, and is not written.
func appendTime(e *zerolog.Event, key string, t time.Time) {
	if t.IsZero() {
		return
	}
	var text [len(timeLayout)]byte
	e.Bytes(key, t.UTC().AppendFormat(text[:0], timeLayout))
}

// appendDuration adds a duration in nanoseconds; a negative one is not known. zerolog's Dur has a unit that is global.
func appendDuration(e *zerolog.Event, key string, d time.Duration) {
	if d >= 0 {
		e.Int64(key, d.Nanoseconds())
	}
}

// maxAddr is room for an IPv6 address with an IPv4 tail.
const maxAddr = 45

func appendAddr(e *zerolog.Event, key string, a netip.Addr) {
	if !a.IsValid() {
		return
	}
	var text [maxAddr]byte
	e.Bytes(key, a.Unmap().WithZone("").AppendTo(text[:0]))
}

func appendStr(e *zerolog.Event, key, value string) {
	if value != "" {
		e.Str(key, value)
	}
}

// appendErrno gives the symbol of an errno, and for one without "E" and the number.
func appendErrno(dst []byte, errno int32) []byte {
	if name := unix.ErrnoName(syscall.Errno(errno)); name != "" {
		return append(dst, name...)
	}
	return strconv.AppendInt(append(dst, 'E'), int64(errno), 10)
}

// sigRTMin is SIGRTMIN as libc counts it: it keeps the first two of the kernel's real-time signals, see signal(7).
const sigRTMin = 34

// appendSignal gives the name of a signal, of a real-time one as kill -l has it.
func appendSignal(dst []byte, signal int) []byte {
	if name := unix.SignalName(syscall.Signal(signal)); name != "" {
		return append(dst, name...)
	}
	if signal >= sigRTMin {
		dst = append(dst, "SIGRTMIN"...)
		if signal == sigRTMin {
			return dst
		}
		return strconv.AppendInt(append(dst, '+'), int64(signal-sigRTMin), 10)
	}
	return strconv.AppendInt(append(dst, "SIG"...), int64(signal), 10)
}
