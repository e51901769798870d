// SPDX-License-Identifier: Apache-2.0

package output

import (
	"strconv"
	"unicode/utf8"
)

// Escape appends s to dst so that a terminal shows it and does nothing else: what is not printable (control characters, C1 and bidi
// controls among them, every space but the common one, bytes that are no UTF-8) becomes what a Go string literal has for it.
// So does the backslash, for the result to tell which it was.
func Escape(dst []byte, s string) []byte {
	for i := 0; i < len(s); {
		if c := s[i]; c >= ' ' && c < utf8.RuneSelf-1 && c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		dst = escapeRune(dst, r, s[i:i+size])
		i += size
	}
	return dst
}

func escapeRune(dst []byte, r rune, encoded string) []byte {
	const hex = "0123456789abcdef"
	if r == utf8.RuneError && len(encoded) == 1 {
		return append(dst, '\\', 'x', hex[encoded[0]>>4], hex[encoded[0]&0xf])
	}
	if r != '\\' && strconv.IsPrint(r) {
		return append(dst, encoded...)
	}
	var quoted [12]byte // '\U0010ffff'
	q := strconv.AppendQuoteRune(quoted[:0], r)
	return append(dst, q[1:len(q)-1]...)
}
