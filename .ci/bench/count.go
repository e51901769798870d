// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// What follows counts the load's own connections in what a tool wrote, and nothing else on the machine.

func eachLine(r io.Reader, take func([]byte)) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		take(s.Bytes())
	}
	return s.Err()
}

// ofLoad is what looptrace's records of the load have in them.
func ofLoad(load *runner) []byte { return fmt.Appendf(nil, `"port":%d,"netns":%d`, port, load.netns) }

// countStream counts connections that have each of these records, with both ends named.
func countStream(events ...string) func(io.Reader, *runner) (int, error) {
	return func(r io.Reader, load *runner) (int, error) {
		ours := ofLoad(load)
		n := make([]int, len(events))
		err := eachLine(r, func(line []byte) {
			if !bytes.Contains(line, ours) || bytes.Count(line, []byte(`"process":{"pid":`)) != 2 {
				return
			}
			for i, event := range events {
				if bytes.Contains(line, []byte(`"event":"`+event+`"`)) {
					n[i]++
				}
			}
		})
		return slices.Min(n), err
	}
}

func countSummaries(r io.Reader, _ *runner) (n int, err error) {
	type named struct{ Process struct{ Comm string } }
	err = eachLine(r, func(line []byte) {
		var s struct {
			Event          string
			Count, Port    int
			Client, Server named
		}
		if json.Unmarshal(line, &s) == nil && s.Event == "summary" && s.Port == port && s.Client.Process.Comm != "" && s.Server.Process.Comm != "" {
			n += s.Count
		}
	})
	return n, err
}

// counter counts lines of one event of the load as they come. It looks at the head of each, where both
// stand: what it costs is taken from the load.
type counter struct {
	mark, event []byte
	n           int
	rest        []byte // of a line that has not ended
}

func (c *counter) Write(p []byte) (int, error) {
	const head = 512
	data := p
	if len(c.rest) > 0 {
		data = append(c.rest, p...)
	}
	for {
		line, after, ended := bytes.Cut(data, []byte{'\n'})
		if !ended {
			c.rest = append(c.rest[:0], line...)
			return len(p), nil
		}
		line = line[:min(len(line), head)]
		if bytes.Contains(line, c.event) && bytes.Contains(line, c.mark) {
			c.n++
		}
		data = after
	}
}

// halved counts lines that hold a word and the load's port: peers write one for each end.
func halved(word string) func(io.Reader, *runner) (int, error) {
	return func(r io.Reader, _ *runner) (n int, err error) {
		ours := fmt.Appendf(nil, " %d ", port)
		err = eachLine(r, func(line []byte) {
			if bytes.Contains(line, []byte(word)) && bytes.Contains(line, ours) {
				n++
			}
		})
		return n / 2, err
	}
}

// countAccepts counts accept calls that returned a connection: others have no address.
func countAccepts(r io.Reader, _ *runner) (n int, err error) {
	err = eachLine(r, func(line []byte) {
		if bytes.Contains(line, []byte("accept4")) && bytes.Contains(line, []byte("sin_port=")) {
			n++
		}
	})
	return n, err
}

// countSYNs counts the first packets of connections.
func countSYNs(r io.Reader, _ *runner) (n int, err error) {
	const protoTCP, flags, syn, ack = 6, 13, 2, 16
	err = eachPacket(r, protoTCP, func(segment []byte) {
		if len(segment) > flags && segment[flags]&(syn|ack) == syn {
			n++
		}
	})
	return n, err
}

// countDatagrams counts flows, by what each consists of.
func countDatagrams(r io.Reader, _ *runner) (n int, err error) {
	const protoUDP = 17
	err = eachPacket(r, protoUDP, func([]byte) { n++ })
	return n / (2 * flowLength), err
}

// eachPacket reads a pcap file of Ethernet frames (pcap-savefile(5)) and passes on what IPv4 packets of a
// protocol carry to or from the load's port.
func eachPacket(r io.Reader, proto byte, take func([]byte)) error {
	const fileHeader, packetHeader, ethernet = 24, 16, 14
	in := bufio.NewReaderSize(r, 1<<20)
	if _, err := in.Discard(fileHeader); err != nil {
		return fmt.Errorf("read pcap: %w", err)
	}
	for {
		var head [packetHeader]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read pcap: %w", err)
		}
		frame := make([]byte, binary.NativeEndian.Uint32(head[8:]))
		if _, err := io.ReadFull(in, frame); err != nil {
			return fmt.Errorf("read pcap: %w", err)
		}
		if len(frame) < ethernet+20 || binary.BigEndian.Uint16(frame[12:]) != 0x0800 || frame[ethernet+9] != proto {
			continue
		}
		body := frame[ethernet+int(frame[ethernet]&15)*4:]
		if len(body) >= 4 && (binary.BigEndian.Uint16(body) == port || binary.BigEndian.Uint16(body[2:]) == port) {
			take(body)
		}
	}
}
