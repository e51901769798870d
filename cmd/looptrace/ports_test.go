// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
)

func TestEachLocalPort(t *testing.T) {
	const list = `  sl  local_address                         remote_address                        st tx_queue
   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000
 117: 0100007F:B5A2 0100007F:1F90 06 00000000:00000000 03:000016D1 00000000     0        0 0 3 0000000000000000
`
	var got []uint16
	if err := eachLocalPort(strings.NewReader(list), func(port uint16) { got = append(got, port) }); err != nil {
		t.Fatal(err)
	}
	if want := []uint16{8080, 46498}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if err := eachLocalPort(strings.NewReader("titles\n0: nonsense\n"), func(uint16) {}); err == nil {
		t.Error("a line without a port was read")
	}
}
