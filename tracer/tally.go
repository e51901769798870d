// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/looptrace/looptrace/tracer/flow"
)

// tallyBatch is how many counts are taken at a time. The map has 4,096.
const tallyBatch = 512

// summarize takes the kernel side's counts once an interval.
func (t *Tracer) summarize(now uint64) error {
	if t.cfg.Summary == 0 || now < t.summarizeAt {
		return nil
	}
	t.summarizeAt = now + uint64(t.cfg.Summary)
	var (
		keys    []flow.TallyKey
		tallies []flow.Tally
		cursor  ebpf.MapBatchCursor
		key     [tallyBatch]flow.TallyKey
		tally   [tallyBatch]flow.Tally
	)
	for {
		// One by one a count could grow between its look-up and its deletion: since 5.6 both are one.
		n, err := t.hooks.coll.Maps["tally_by_key"].BatchLookupAndDelete(&cursor, key[:], tally[:], nil)
		keys, tallies = append(keys, key[:n]...), append(tallies, tally[:n]...)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			break
		}
		if err != nil {
			return fmt.Errorf("take counts: %w", err)
		}
	}
	t.table.Summarize(keys, tallies, now)
	return nil
}
