// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"slices"

	"github.com/rs/zerolog"

	"github.com/looptrace/looptrace/tracer/flow"
)

// processSlots is how many processes' texts are remembered. Fewer, and a host's busy programs push each other out;
// more costs memory, a kilobyte each. A power of two.
const processSlots = 512

// processTexts remembers what processes look like as JSON: a server is in record after record, and its text is half of
// each. A slot's text is written again only for the same content: a process that executes or renames itself looks
// different from then on.
type processTexts struct {
	slots [processSlots]processText
	made  buffer // where log writes
	log   zerolog.Logger
}

type processText struct {
	of   flow.Process // what it was made of
	how  flow.Actor
	text []byte
}

func (c *processTexts) open() { c.log = zerolog.New(&c.made) }

// add adds `process`. A nil cache remembers nothing.
func (c *processTexts) add(e *zerolog.Event, a *flow.Actor) {
	if c == nil || len(a.Holders) > 0 {
		e.Object("process", (*process)(a))
		return
	}
	e.RawJSON("process", c.of(a))
}

// of gives the text, until the next call.
func (c *processTexts) of(a *flow.Actor) []byte {
	slot := &c.slots[slotOf(a)]
	if slot.text != nil && slot.is(a) {
		return slot.text
	}
	c.made.buf = c.made.buf[:0]
	c.log.Log().EmbedObject((*process)(a)).Send()
	slot.of, slot.how = *a.P, *a
	slot.text = append(slot.text[:0], bytes.TrimSuffix(c.made.buf, []byte{'\n'})...)
	return slot.text
}

// slotOf keeps the long text of a process apart from its short one: most connections have both.
func slotOf(a *flow.Actor) uint32 {
	slot := a.P.PID << 1
	if a.Short {
		slot++
	}
	return slot % processSlots
}

// is compares all that the text is made of. Strings that are the same in memory are not looked at.
func (t *processText) is(a *flow.Actor) bool {
	p, q := a.P, &t.of
	return a.Short == t.how.Short && a.Attribution == t.how.Attribution && a.Thread == t.how.Thread &&
		p.ProcessID == q.ProcessID && p.ParentPID == q.ParentPID && p.UID == q.UID && p.Created.Equal(q.Created) &&
		p.Comm == q.Comm && p.ExeName == q.ExeName && p.ExePath == q.ExePath && p.CommandLine == q.CommandLine &&
		p.Owner == q.Owner && p.Unit == q.Unit && slices.Equal(p.Ancestors, q.Ancestors)
}
