// SPDX-License-Identifier: Apache-2.0

package flow

// list links the connections of one port through themselves: entering and leaving take the same
// short time however many there are, and allocate nothing.
type list struct{ first *link }

type link struct {
	conn       *conn
	prev, next *link
	in         *list
}

func (l *list) add(k *link) {
	k.in, k.prev, k.next = l, nil, l.first
	if l.first != nil {
		l.first.prev = k
	}
	l.first = k
}

func (k *link) remove() {
	if k.in == nil {
		return
	}
	if k.prev != nil {
		k.prev.next = k.next
	} else {
		k.in.first = k.next
	}
	if k.next != nil {
		k.next.prev = k.prev
	}
	k.in, k.prev, k.next = nil, nil, nil
}
