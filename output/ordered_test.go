// SPDX-License-Identifier: Apache-2.0

package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
)

// ordered is a JSON value whose object keys keep their order, which a reader of the reference follows. Its
// methods take nil for a value that is not there.
type ordered struct {
	keys   []string
	fields map[string]*ordered // an object's
	items  []*ordered          // an array's
	scalar any                 // neither
}

func parseOrdered(t *testing.T, raw []byte) *ordered {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	o, err := decodeOrdered(d)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func decodeOrdered(d *json.Decoder) (*ordered, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	o := &ordered{}
	switch token {
	case json.Delim('{'):
		o.fields = map[string]*ordered{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			name := fmt.Sprint(key)
			o.keys = append(o.keys, name)
			if o.fields[name], err = decodeOrdered(d); err != nil {
				return nil, err
			}
		}
	case json.Delim('['):
		for d.More() {
			item, err := decodeOrdered(d)
			if err != nil {
				return nil, err
			}
			o.items = append(o.items, item)
		}
	default:
		o.scalar = token
		return o, nil
	}
	_, err = d.Token() // the closing bracket
	return o, err
}

func (o *ordered) at(key string) *ordered {
	if o == nil {
		return nil
	}
	return o.fields[key]
}

func (o *ordered) list() []*ordered {
	if o == nil {
		return nil
	}
	return o.items
}

func (o *ordered) names() []string {
	if o == nil {
		return nil
	}
	return o.keys
}

// words are the scalars of an array.
func (o *ordered) words() []string {
	var words []string
	for _, item := range o.list() {
		words = append(words, fmt.Sprint(item.scalar))
	}
	return words
}
