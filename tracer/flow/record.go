// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"path"
	"strings"
	"time"
)

// Record is one finished line: what happened, with every name that is known. A Record and all it
// points to belong to the Table that made it and are valid until the next call of one of its
// methods: a sink that keeps one copies what it needs.
//
// A nil pointer, an invalid address or a zero time is a fact that is not known, and is not written.
type Record struct {
	Event   string // bind, listen, release, connect, accept, close, summary, start, lost, stop
	Time    time.Time
	Level   Level
	ID      uint64
	Errno   int32 // positive; 0: outcome success
	Proto   uint16
	IPv6    bool
	Netns   uint32
	Port    uint16
	HasPort bool

	Preexisting bool

	Sock *SockRecord // bind, listen, release
	Conn *ConnRecord // connect, accept, close

	Summary *SummaryRecord

	Start *StartRecord
	Lost  *LostRecord
	Stop  *StopRecord
}

// Level is the severity of a record.
type Level uint8

// The contract's levels: Warn for failures, losses and listeners that the network may reach on a
// port that the kernel picked; Error when looptrace itself is impaired.
const (
	Info Level = iota
	Warn
	Error
)

func (l Level) String() string { return [...]string{"info", "warn", "error"}[l] }

// Failed says whether the call ended in an error.
func (r *Record) Failed() bool { return r.Errno != 0 }

// SockRecord is what bind, listen and release add.
type SockRecord struct {
	Address netip.Addr
	Process Actor

	// bind
	Requested      netip.AddrPort // valid where a caller asked
	HasRequested   bool
	Ephemeral      bool   // meaningful on a successful bind
	RangeLow       uint16 // ip_local_port_range of the namespace; 0, 0: not known
	RangeHigh      uint16
	Implicit       bool // nobody called bind(): listen() or a first datagram did
	V6Only         bool // meaningful for IPv6
	Holder         *Holder
	EphemeralPorts *EphemeralPorts

	// listen
	Backlog uint32
	Exposed bool // exposure network, else loopback

	// release
	Held   time.Duration // negative: not known
	Reason string        // close, exit, shutdown; empty: not known
	Exit   Exit
}

// ConnRecord is what connect, accept and close add.
type ConnRecord struct {
	Client, Server End
	Duration       time.Duration // negative: not known
	Self           bool
	HasEphemeral   bool // connect
	Ephemeral      bool // the kernel picked the client's port
	Retransmits    uint32
	AcceptQueue    *AcceptQueue
	LastListener   *LastListener
	Nearby         []Nearby
	EphemeralPorts *EphemeralPorts

	Listener Actor // accept: who called listen(), where that is another process

	// close; bytes are known for TCP only
	HasBytes bool
	C2S, S2C uint64
	ClosedBy string // client, server; empty: not known
	Reset    bool
	Accepted bool
}

// End is one end of a connection.
type End struct {
	Address netip.Addr
	Port    uint16
	HasPort bool
	Process Actor
	Holders []Actor // server: several processes hold the listener, and nobody can say which accepts
}

// Actor is a process in its role in one record. P nil: not known.
type Actor struct {
	P           *Process
	Attribution string // hook, snapshot, shared
	Thread      string // the calling thread's name, where it differs from the program's
	Short       bool   // given in full by an earlier record of the same connection
	Holders     []Actor
}

// Known says whether there is a process to name.
func (a Actor) Known() bool { return a.P != nil }

// Process is what names a program that runs or ran.
type Process struct {
	ProcessID
	ParentPID uint32
	Created   time.Time
	Comm      string
	ExeName   string
	ExePath   string
	// Argv is the arguments, NUL-separated and (if so configured) redacted. No sink writes it.
	Argv string
	// CommandLine is Argv joined by spaces and cut.
	CommandLine string
	Owner       string // user name of UID
	Unit        string // systemd unit
	Container   Container
	Ancestors   []Ancestor
	Exit        Exit
	Exited      time.Time

	tree     bool   // belongs to the tree of `run`
	forked   uint64 // when it had a child last
	received uint64 // when it got a descriptor of a socket that holds a port from another
	execComm string // as exec set it; a script's is the script
}

// commLen is the longest comm (TASK_COMM_LEN without its NUL): a longer name is cut to it.
const commLen = 15

// Name is what people call the program. The comm is that while it is what the kernel set at exec:
// an executable may be the target of a link (redis-server is redis-check-rdb's) or carry a version
// (python3.11). A program that renamed its first thread (node's MainThread) goes by its executable.
func (p *Process) Name() string {
	argv0, _, _ := strings.Cut(p.CommandLine, " ")
	for _, full := range []string{path.Base(argv0), p.ExeName} {
		if full == p.Comm || len(p.Comm) == commLen && strings.HasPrefix(full, p.Comm) {
			return full
		}
	}
	if p.ExeName == "" || p.Comm == p.execComm {
		return p.Comm
	}
	return p.ExeName
}

// Ancestor is one step up the tree of processes, as it was when the child was born.
type Ancestor struct {
	PID     uint32
	ExeName string
}

// Exit is how a process ended (wait(2)). Signal 0 and Known: it exited with Code.
type Exit struct {
	Known  bool
	Code   int
	Signal int
}

// exitOf splits task_struct.exit_code: the status in bits 8-15, the signal in bits 0-6.
func exitOf(code int32) Exit {
	return Exit{Known: true, Code: int(code>>8) & 0xff, Signal: int(code) & 0x7f}
}

// Kinds of Holder.
const (
	HolderListener   = "listener"
	HolderBound      = "bound"
	HolderConnection = "connection"
	HolderTimeWait   = "time_wait"
)

// Holder is who keeps a port from being bound.
type Holder struct {
	Kind    string
	Address netip.Addr
	Port    uint16
	Process Actor
	Since   time.Time
	State   string         // connection: established, …; empty: not known
	Peer    netip.AddrPort // connection
	Expires time.Duration  // time_wait: until it is free

	conn uint64 // id of the connection in the ledger, 0: it is none
	sock uint64 // id of the socket, likewise
}

// LastListener is who listened on a port before a connection to it was refused.
type LastListener struct {
	Process      Actor
	Since, Until time.Time
	Reason       string
	Exit         Exit
}

// Nearby is a listener on the port that was dialled which the client could not reach.
type Nearby struct {
	Address netip.Addr
	Port    uint16
	Process Actor
	Netns   uint32
	Because string // family, address, netns
}

// AcceptQueue is a listener's queue of connections that wait for accept(), when a SYN to it was sent
// again. It takes Limit and one more; then the kernel drops SYNs.
type AcceptQueue struct{ Length, Limit uint32 }

// EphemeralPorts says who uses the range that the kernel picks from, when none was left.
type EphemeralPorts struct {
	Low, High uint16
	InUse     int
	Top       []PortUser
}

// PortUser is a process and how many ports of the range it holds.
type PortUser struct {
	Process Actor
	Count   int
}

// StartRecord opens every run, after each hook is live.
type StartRecord struct {
	Hooks   string
	Kernel  string
	Version string
	Filters map[string]any // as the user gave them, by flag
	Host    string
	BootID  string
	PID     int // looptrace's own: its sockets are never recorded
}

// SummaryRecord counts an interval's connections of two programs, on one port and with one outcome. What it and its
// record say beside the counts holds for each of them; what was not the same for all is not known.
type SummaryRecord struct {
	Client, Server Program
	Address        netip.Addr // that was dialled
	HasEphemeral   bool
	Ephemeral      bool // the kernel picked the clients' ports
	Count          uint64
	HasBytes       bool
	C2S, S2C       uint64
	Handshake      Handshake // zero: none was seen
	First, Last    time.Time // when the first began and the last ended
}

// Program is one end of the connections that a summary counts. P is the process that made them all,
// nil where there were several.
type Program struct {
	Comm, ExeName string
	P             *Process
	HasUser       bool
	UID           uint32
	Owner         string // user name of UID
	Container     Container
}

// Handshake is how long handshakes took: percentiles, and the longest.
type Handshake struct{ P50, P90, P99, Max time.Duration }

// SchemaVersion counts incompatible changes of the records.
const SchemaVersion = 1

// LostRecord says what was lost since the last of its kind for the same place.
type LostRecord struct {
	Count uint64
	Where string
	Since time.Time
}

// StopRecord closes every run.
type StopRecord struct {
	Counts   map[string]uint64 // records written, by event
	Lost     uint64
	Duration time.Duration
}
