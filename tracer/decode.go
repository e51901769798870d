// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"unsafe"

	"github.com/looptrace/looptrace/tracer/flow"
)

// Sizes of the wire records, `struct exec_event` of bpf/event.h apart.
const (
	headerSize = int(unsafe.Sizeof(flow.Header{}))
	sockSize   = int(unsafe.Sizeof(flow.SockEvent{}))
	connSize   = int(unsafe.Sizeof(flow.ConnEvent{}))
	taskSize   = int(unsafe.Sizeof(flow.TaskEvent{}))
	heldSize   = int(unsafe.Sizeof(flow.HeldRow{}))
	inUseSize  = sockSize + heldSize // struct in_use_event
	listSize   = int(unsafe.Sizeof(flow.ListRow{}))

	execHead  = taskSize + 8 + 4*2 + 4
	argsMax   = 1024
	pathBytes = 2 * 1024
	execSize  = execHead + argsMax + 2*pathBytes
)

var (
	errShort = errors.New("record shorter than its kind")
	errKind  = errors.New("record of an unknown kind")
)

// observe decodes one record and gives it to the table. The casts copy nothing; the table keeps
// nothing of the bytes. Any bytes may come: those that are no record are an error.
func (t *Tracer) observe(raw []byte) error {
	if len(raw) < headerSize {
		return errShort
	}
	if uintptr(unsafe.Pointer(&raw[0]))%8 != 0 {
		raw = bytes.Clone(raw) // the ring's are aligned: only a test's are not
	}
	switch (*flow.Header)(unsafe.Pointer(&raw[0])).Kind {
	case flow.KindConnect, flow.KindAccept, flow.KindClose, flow.KindRefused:
		ev, err := connEvent(raw)
		if err != nil {
			return err
		}
		if !t.own.has(ev) {
			t.table.ObserveConn(ev)
		}
	case flow.KindBind, flow.KindListen, flow.KindRelease, flow.KindPeer:
		ev, err := sockEvent(raw)
		if err != nil {
			return err
		}
		if len(raw) >= inUseSize && ev.Error != 0 {
			t.observeInUse(ev, (*flow.HeldRow)(unsafe.Pointer(&raw[sockSize])))
			return nil
		}
		t.table.ObserveSock(ev)
	case flow.KindFork, flow.KindExit, flow.KindRename, flow.KindReceived:
		if len(raw) < taskSize {
			return errShort
		}
		t.table.ObserveTask((*flow.TaskEvent)(unsafe.Pointer(&raw[0])))
	case flow.KindExec, flow.KindMoved:
		ev, err := execEvent(raw)
		if err != nil {
			return err
		}
		t.judgeCgroup(ev.CgroupID, ev.Cgroup)
		t.table.ObserveExec(&ev)
	default:
		return errKind
	}
	return nil
}

func (t *Tracer) observeInUse(ev *flow.SockEvent, way *flow.HeldRow) {
	if t.jiffy == 0 && way.Jiffies != 0 {
		at := ev.Time - (boottime() - monotonic()) // they were read as the call failed
		if t.jiffy = jiffyOf(way.Jiffies, at, at); t.jiffy != 0 {
			t.table.SetJiffy(t.jiffy)
		}
	}
	t.table.ObserveInUse(ev, way)
}

func sockEvent(raw []byte) (*flow.SockEvent, error) {
	if len(raw) < sockSize {
		return nil, errShort
	}
	return (*flow.SockEvent)(unsafe.Pointer(&raw[0])), nil
}

func connEvent(raw []byte) (*flow.ConnEvent, error) {
	if len(raw) < connSize {
		return nil, errShort
	}
	return (*flow.ConnEvent)(unsafe.Pointer(&raw[0])), nil
}

func heldRow(raw []byte) (*flow.HeldRow, error) {
	if len(raw) < heldSize {
		return nil, errShort
	}
	return (*flow.HeldRow)(unsafe.Pointer(&raw[0])), nil
}

func listRow(raw []byte) (*flow.ListRow, error) {
	if len(raw) < listSize {
		return nil, errShort
	}
	return (*flow.ListRow)(unsafe.Pointer(&raw[0])), nil
}

func execEvent(raw []byte) (flow.ExecEvent, error) {
	if len(raw) < execSize {
		return flow.ExecEvent{}, errShort
	}
	ev := flow.ExecEvent{TaskEvent: *(*flow.TaskEvent)(unsafe.Pointer(&raw[0]))}
	ev.CgroupID = binary.NativeEndian.Uint64(raw[taskSize:])
	lens := raw[taskSize+8:]
	argsLen := int(binary.NativeEndian.Uint16(lens))
	pathLen := int(binary.NativeEndian.Uint16(lens[2:]))
	cgroupLen := int(binary.NativeEndian.Uint16(lens[4:]))
	pathCut := binary.NativeEndian.Uint16(lens[6:]) != 0
	body := raw[execHead:]
	args, path, cgroup := body[:argsMax], body[argsMax:argsMax+pathBytes], body[argsMax+pathBytes:]
	ev.Args = args[:min(argsLen, len(args))]
	if !pathCut {
		ev.Path = absolute(path[:min(pathLen, len(path))])
	}
	ev.Cgroup = absolute(cgroup[:min(cgroupLen, len(cgroup))])
	return ev, nil
}

// absolute turns components, leaf first and each with its NUL, into a path.
func absolute(leafFirst []byte) string {
	if len(leafFirst) == 0 {
		return ""
	}
	names := bytes.Split(bytes.TrimSuffix(leafFirst, []byte{0}), []byte{0})
	var b strings.Builder
	for i := len(names) - 1; i >= 0; i-- {
		b.WriteByte('/')
		b.Write(names[i])
	}
	return b.String()
}
