// SPDX-License-Identifier: Apache-2.0

package flow

import "net/netip"

// Kind says what an event is; the values are those of `enum kind` in bpf/event.h.
type Kind uint16

// The kinds of events, and (up to KindClose) of the records made of them.
const (
	KindBind Kind = 1 + iota
	KindListen
	KindRelease
	KindConnect
	KindAccept
	KindClose
	KindExec
	KindFork
	KindExit
	KindRename
	KindRefused
	KindReceived
	KindMoved
	KindPeer
)

// Flags of an event: `enum event_flag` in bpf/event.h.
const (
	FlagEphemeral uint16 = 1 << iota
	FlagV6Only
	FlagImplicit
	FlagRequested
	FlagKept
	FlagSelf
	FlagReset
	FlagAccepted
	FlagPreexisting
	FlagLive
	FlagServer
	FlagIPv6
	FlagReuse
	FlagReusePort
	FlagQueue
	FlagEnding
)

// FlagOrphan is of a HeldRow, which has no FlagEnding: no process has the socket open.
const FlagOrphan = FlagEnding

// Who ended a connection first: `enum closer` in bpf/event.h.
const (
	CloserUnknown uint16 = iota
	CloserClient
	CloserServer
)

// Why a socket lost its port: `enum reason` in bpf/event.h.
const (
	ReasonUnknown uint16 = iota
	ReasonClose
	ReasonExit
	ReasonShutdown
)

// IP protocol numbers, as events carry them.
const (
	TCP uint16 = 6
	UDP uint16 = 17
)

// StateListen is TCP_LISTEN of include/net/tcp_states.h.
const StateListen = 10

// The types below have the layout of their C twins in bpf/event.h; package tracer casts the bytes
// of a record to them, and a test of its own holds the two against each other.

// Header begins every event. Time is CLOCK_BOOTTIME in nanoseconds.
type Header struct {
	Time  uint64
	Kind  Kind
	Flags uint16
	Netns uint32
}

// Owner is the process that made a call, with the name of the calling thread if that is not the
// process's first. PID 0: not known.
type Owner struct {
	Start  uint64
	PID    uint32
	UID    uint32
	Thread [16]byte
}

// ProcessID names a process for as long as the host runs: numbers alone are reused. Start is
// task_struct.start_boottime, in nanoseconds. PID 0: not known.
type ProcessID struct {
	Start uint64
	PID   uint32
	UID   uint32
}

// SockEvent is a bind, a listen, a release, a UDP socket's connect(), or the snapshot's row of a socket that
// holds a port. Without FlagRequested ReqAddr and ReqPort are a UDP socket's peer; port 0: anybody.
type SockEvent struct {
	Header
	ID       uint64
	Since    uint64
	Actor    Owner
	Addr     [16]byte
	ReqAddr  [16]byte
	Port     uint16
	ReqPort  uint16
	Proto    uint16
	Reason   uint16
	Error    int32
	Backlog  uint32
	ExitCode int32
	State    uint32

	RangeLow, RangeHigh uint16
	_                   uint32
}

// ConnEvent is a connect, an accept, a close, a refused UDP flow, or the snapshot's row of one end
// of a connection.
type ConnEvent struct {
	Header
	ID          uint64
	Started     uint64
	C2S         uint64
	S2C         uint64
	Client      ProcessID
	Server      ProcessID
	Last        ProcessID // close: who closed the end that closed first; PID 0: the end's process
	ServerSock  uint64
	ClientSock  uint64
	ClientAddr  [16]byte
	ServerAddr  [16]byte
	ClientPort  uint16
	ServerPort  uint16
	Proto       uint16
	Closer      uint16
	Error       int32
	Retransmits uint32
	QueueLength uint32
	QueueLimit  uint32
	Thread      [16]byte
}

// ListRow is a socket that a process has open, as a look without hooks found it: a row for each process that
// holds it. Sock and Inode are the same in all of these, and in no other's.
type ListRow struct {
	Sock    uint64
	Inode   uint64
	ID      uint64
	Owner   ProcessID
	Local   [16]byte
	Remote  [16]byte
	LPort   uint16
	RPort   uint16
	Proto   uint16
	Flags   uint16
	Netns   uint32
	State   uint32
	Backlog uint32

	RangeLow, RangeHigh uint16
}

// TaskEvent is the birth, the death or the renaming of a process.
type TaskEvent struct {
	Header
	Task        ProcessID
	ParentStart uint64
	ParentPID   uint32
	ExitCode    int32
	Comm        [16]byte
}

// ExecEvent is an execve(2) that succeeded, or with KindMoved a change of the cgroup, and the rest is empty. Args is argv, NUL-separated, cut at 1,024 bytes; Path and
// Cgroup are absolute, empty where they could not be read.
type ExecEvent struct {
	TaskEvent
	Args     []byte
	Path     string
	Cgroup   string
	CgroupID uint64 // of kernfs
}

// addrOf gives a wire address as netip has it: IPv4 unmapped.
func addrOf(b [16]byte) netip.Addr { return netip.AddrFrom16(b).Unmap() }
