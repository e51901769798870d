// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/DeRuina/timberjack"

	"github.com/looptrace/looptrace/output"
	"github.com/looptrace/looptrace/tracer"
	"github.com/looptrace/looptrace/tracer/flow"
)

// logFile is the sink of --log-file: JSON in a file that is rotated. The disk is behind a queue, so
// that a slow one does not hold up the reader of the kernel's ring; what does not fit is counted.
type logFile struct {
	file   *rotated
	redact *redactor // nil: command lines as they are
	json   tracer.Sink
	batch  bytes.Buffer // where json writes
	queue  *queue
	close  func() error // once
}

// openLogFile makes sure that the file can be written: later would be too late to say so.
func openLogFile(path string, redact bool) (*logFile, error) {
	file, err := openRotated(path)
	if err != nil {
		return nil, usagef(logFileHint(path, err), "--log-file %s: %v", path, bareError(err))
	}
	l := &logFile{file: file, queue: newQueue(file)}
	l.json = output.NewJSON(&l.batch)
	l.close = sync.OnceValue(func() error { return errors.Join(l.queue.close(), file.Close()) })
	if redact {
		l.redact = newRedactor(flow.RedactArgs)
	}
	return l, nil
}

func logFileHint(path string, err error) string {
	_, noDir := os.Stat(filepath.Dir(path))
	switch {
	case errors.Is(err, syscall.ENOENT) && noDir != nil: // /proc has no such file and takes none
		return "make the directory first"
	case errors.Is(err, syscall.EISDIR):
		return "give the path of a file, not of a directory"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "run looptrace with sudo, or choose a path that you may write to"
	case errors.Is(err, syscall.ENXIO):
		return "start what reads the named pipe first"
	default:
		return "choose a path that can be written to"
	}
}

// bareError takes the path off: the message has it already.
func bareError(err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// Write formats a record into the batch.
func (l *logFile) Write(r *flow.Record) error {
	if l.redact != nil {
		r = l.redact.record(r)
	}
	return l.json.Write(r)
}

// Flush queues the batch. The error is one of an earlier batch.
func (l *logFile) Flush() error {
	if err := l.json.Flush(); err != nil {
		return err
	}
	err := l.queue.put(l.batch.Bytes())
	l.batch.Reset()
	if err != nil {
		return fmt.Errorf("write log file: %w", err)
	}
	return nil
}

// Lost is how many records the file lacks.
func (l *logFile) Lost() uint64 { return l.queue.losses.Total() }

// TakeLost gives what was lost since the last call, and since when.
func (l *logFile) TakeLost() (uint64, time.Time) { return l.queue.losses.Take() }

// Reopen goes on in a new file under the old name, where someone moved the old one away.
func (l *logFile) Reopen() error { return l.file.reopen() }

// Close writes what is queued. Later calls return what the first did.
func (l *logFile) Close() error {
	if err := l.close(); err != nil {
		return fmt.Errorf("write log file: %w", err)
	}
	return nil
}

// Rotation: the file and its predecessors take at most 600 MB.
const (
	rotateAtMB  = 100
	keepRotated = 5
	// logMode keeps command lines from everyone else on the machine. A file that is there keeps its own.
	logMode = 0o640
)

// rotated is a log file under a name; its methods may be called at the same time.
type rotated struct {
	mu   sync.Mutex
	path string
	made bool // it was not there before
	out  io.WriteCloser
}

func openRotated(path string) (*rotated, error) {
	r := &rotated{path: path}
	out, err := r.open()
	if err != nil {
		return nil, err
	}
	r.out = out
	return r, nil
}

// open leaves the opening of a plain file to the rotating writer, which does it late, and so tries
// first. What is no plain file must not be rotated: that would rename /dev/stderr.
func (r *rotated) open() (io.WriteCloser, error) {
	_, err := os.Lstat(r.path)
	absent := errors.Is(err, os.ErrNotExist)
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, logMode)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return f, err
	}
	if err := errors.Join(endLine(f, info.Size()), f.Close()); err != nil {
		return nil, err
	}
	r.made = absent
	return &timberjack.Logger{Filename: r.path, MaxSize: rotateAtMB, MaxBackups: keepRotated}, nil
}

// endLine ends the line that a full disk broke off: what is appended would be a part of it.
func endLine(f *os.File, size int64) error {
	read, err := os.Open(f.Name())
	if err != nil || size == 0 {
		return nil // not ours to read
	}
	defer read.Close()
	last := make([]byte, 1)
	if _, err := read.ReadAt(last, size-1); err != nil || last[0] == '\n' {
		return nil
	}
	_, err = f.Write([]byte{'\n'})
	return err
}

func (r *rotated) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(p)
}

func (r *rotated) reopen() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	out, err := r.open()
	if err != nil {
		return err // goes on with the old file
	}
	old := r.out
	r.out = out
	return old.Close()
}

func (r *rotated) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.out.Close()
	// A run that could not begin leaves nothing behind.
	if info, statErr := os.Stat(r.path); r.made && statErr == nil && info.Size() == 0 {
		err = errors.Join(err, os.Remove(r.path))
	}
	return err
}
