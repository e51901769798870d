// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"slices"
	"time"
)

// Inquiry is what Explain answers, with all that is known. Explain looks nothing up.
type Inquiry struct {
	Text    string   // as it was asked
	Targets []Target // what ParseTarget made of it; each names a port

	// The moment asked about, as wide as it was given: 14:03 is a minute. Zero: now.
	At, AtEnd time.Time
	Since     time.Time // what was over before is left out; zero: nothing is

	Now    time.Time // when the live state was looked at, else when it was asked
	Looked bool      // Live is all that there was of these ports at Now
	Live   []*Record // bind, listen and connect records, preexisting
	// Waiting is the TIME_WAITs of these ports. They are no records: nobody did anything.
	Waiting []Holder

	Past      []*Record // of the store, in any order, its start and stop records among them
	Remembers time.Time // since when the store remembers; zero: there is none
	Watches   []Watch   // when looptrace record wrote to the store, the first first
	// LookedFrom is from when on all that the store has of these ports is in Past, one by one or counted: what is older
	// was too much. Zero: all is.
	LookedFrom time.Time
	// Partial says that Past lacks some of it, before LookedFrom or after the moment asked about: counts are of what it has.
	Partial bool
	// FirstSeen is when the store first saw a program, by the path of its executable; it is asked for the
	// programs that hold the ports.
	FirstSeen map[string]time.Time

	Host Host
}

// Watch is a time in which a looptrace record wrote to the store.
type Watch struct {
	From  time.Time // zero: not known
	Until time.Time // the last that it wrote
	Goes  bool      // it watches still
}

// Host is what the machine says of itself and of who asks.
type Host struct {
	Netns     uint32    // of who asks
	Low, High uint16    // ip_local_port_range there; 0, 0: not known
	Service   string    // what the port is registered for; "": nothing
	UID       uint32    // who asks; under sudo, who called it
	Session   []Process // the processes above who asks, nearest first: PID, Created and ExeName
}

// Explanation is the answer. Its records are those of the Inquiry.
type Explanation struct {
	Inquiry  *Inquiry
	Known    bool      // there is something to say about the target beyond what its number is
	Now      []*Record // what holds or uses it at the moment asked about
	History  []*Record // what did before, and after
	Refused  []*Record // what failed
	LeftOut  int       // of Now, History and Refused together: they are bounded
	Findings []Finding // in the order in which a person wants to know
}

// OfPast says whether another moment than now was asked about.
func (q *Inquiry) OfPast() bool { return !q.At.IsZero() }

// Kinds of Finding. Scripts see them: they are added to, never renamed.
const (
	FindServer       = "server"           // Process listens there (Then: listened)
	FindBound        = "bound"            // Process is bound there and does not listen
	FindClient       = "client"           // it is the source port of Process, which dialled
	FindConnection   = "connection"       // a connection holds it that outlived its listener
	FindTimeWait     = "time_wait"        // a closed connection holds it Until
	FindNobody       = "nobody"           // nobody has it; Record is the last who had
	FindAddress      = "address"          // what kind of address it is
	FindHolder       = "holder"           // how Process got it, since From
	FindProcess      = "process"          // what Process runs, as whom, started by whom
	FindReach        = "reach"            // whether the network reaches it
	FindOrigin       = "origin"           // Why: who started Process
	FindSeen         = "seen"             // Process was seen Count times before, since From; 0: for the first time
	FindConnected    = "connected"        // Count connections of Process now
	FindVisitor      = "visitor"          // Count connections of Process's program, over
	FindRefused      = "refused"          // Count refusals of Process's program
	FindInUse        = "in_use"           // Count failed binds of Process's program
	FindFailed       = "failed"           // other failures
	FindBefore       = "before"           // Process had it until Until
	FindReused       = "reused"           // Process had it as a client's port, later
	FindTaken        = "taken"            // Process let go of the port, Other took it, Process asked again
	FindElsewhere    = "elsewhere"        // Process listens on the same port of another address
	FindLocalhost    = "localhost"        // Target is Process's, the name's other address Other's
	FindShadowed     = "shadowed"         // Process listens there too, and gets none of the connections
	FindSelf         = "self_connected"   // a socket is connected to itself
	FindNotListening = "never_listening"  // bound, and never listening
	FindUnaccepted   = "never_accepted"   // Count connections that no process took; Why: or has not taken yet
	FindOwners       = "changing_owner"   // Count programs had it in turn
	FindPicked       = "port_of_this_run" // the kernel picked it: the next run has another
	FindAdvice       = "advice"           // what to do; Why says which
	FindKnown        = "known"            // what the answer rests on
	FindUnwatched    = "unwatched"        // nobody is known to have watched between From and Until, or since From
	FindLost         = "lost"             // Count events were lost
	FindFiltered     = "filtered"         // Why: what alone the recorder was told to keep
)

// Finding is one thing that an Explanation says. Which fields are set its Kind says; package output has
// the sentence.
type Finding struct {
	Kind        string
	Level       Level
	Target      Target
	Process     Actor
	Record      *Record // that says it
	Other       *Record // the second one, where two are compared
	Ancestor    Ancestor
	Then        bool // of a moment in the past
	Unseen      bool // its end nobody saw: Until is when it was last heard of; of FindHolder, the store does not have it
	Count       uint64
	From, Until time.Time
	Every       time.Duration // visitors that come at a beat; 0: they do not
	HasBytes    bool
	C2S, S2C    uint64
	Why         string
	Command     string // to be typed as it is; "": nothing is
}

// Bounds of an answer: text is a page, and JSON what a program can still look through.
const (
	maxNow      = 500
	maxHistory  = 500
	maxRefused  = 200
	maxHolders  = 3
	maxVisitors = 5
	maxBefore   = 3
)

// Explain says what is known about a port. It names nobody whom no record names, and the order of the records
// in the Inquiry does not matter.
func Explain(q *Inquiry) *Explanation {
	x := &explainer{q: q, out: &Explanation{Inquiry: q}}
	x.gather()
	x.arrange()
	x.role()
	x.address()
	for _, h := range x.holds.now[:min(len(x.holds.now), maxHolders)] {
		x.holder(h)
	}
	x.clients()
	x.failures()
	x.before()
	x.odd()
	x.advice()
	x.say(Finding{Kind: FindKnown, From: q.Remembers})
	x.gaps()
	x.records()
	return x.out
}

// explainer is an Explanation in the making.
type explainer struct {
	q   *Inquiry
	out *Explanation

	holds     placed[*hold] // sockets on the port, which the target reaches
	talks     placed[*talk] // connections with an end on it
	sources   []*hold       // of talks, whose program bound the port before it dialled
	elsewhere []*hold       // on the same port of other addresses, at the moment
	summaries []*Record
	failed    []*Record // newest first
	waiting   []Holder
	lost      time.Time // when the store lost something last
}

// placed is lives about the moment asked about.
type placed[L any] struct {
	now    []L
	before []L // the last first
	after  []L // the first first
}

func (x *explainer) say(f Finding) { x.out.Findings = append(x.out.Findings, f) }

// records gives the answer's records: of each list the newest.
func (x *explainer) records() {
	e := x.out
	for _, h := range x.holds.now {
		e.Now = append(e.Now, h.records...)
	}
	for _, d := range x.talks.now {
		e.Now = append(e.Now, d.records...)
	}
	e.History = slices.Clone(x.summaries)
	from, to := x.moment()
	for _, h := range x.sources {
		if slices.ContainsFunc(h.dialled, func(d *talk) bool { return d.at(from, to) }) {
			e.Now = append(e.Now, h.records...)
		} else {
			e.History = append(e.History, h.records...)
		}
	}
	for _, h := range slices.Concat(x.holds.before, x.holds.after) {
		e.History = append(e.History, h.records...)
	}
	for _, d := range slices.Concat(x.talks.before, x.talks.after) {
		e.History = append(e.History, d.records...)
	}
	e.Refused = slices.Clone(x.failed)
	e.Known = len(e.Now)+len(e.History)+len(e.Refused)+len(x.waiting) > 0
	for list, most := range map[*[]*Record]int{&e.Now: maxNow, &e.History: maxHistory, &e.Refused: maxRefused} {
		slices.SortStableFunc(*list, inOrder)
		if over := len(*list) - most; over > 0 {
			e.LeftOut += over
			*list = (*list)[over:]
		}
	}
}

// inOrder sorts records by time, and those of one moment as the contract has them.
func inOrder(a, b *Record) int {
	return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(rank(a), rank(b)), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Port, b.Port),
		cmp.Compare(pidOf(a), pidOf(b)))
}

var eventRank = map[string]int{"start": 0, "bind": 1, "listen": 2, "connect": 3, "accept": 4, "close": 5, "summary": 6, "release": 7, "lost": 8, "stop": 9}

func rank(r *Record) int { return eventRank[r.Event] }

func pidOf(r *Record) uint32 {
	switch {
	case r.Sock != nil && r.Sock.Process.P != nil:
		return r.Sock.Process.P.PID
	case r.Conn != nil && r.Conn.Client.Process.P != nil:
		return r.Conn.Client.Process.P.PID
	}
	return 0
}
