// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// stageCommand names the stage between looptrace and a command that it starts: looptrace again, in the
// process that becomes the command. It waits until the tracer knows its pid, so that nothing the
// command does is missed, and then gives up its privileges and executes the command.
const stageCommand = "__stage"

// stageGate is the descriptor that the stage waits on: a byte lets it go on, the end of file means
// that looptrace is gone.
const stageGate = 3

// actor is a process that waits on its stage.
type actor struct {
	cmd  *exec.Cmd
	gate *os.File
}

// startStopped starts argv, stopped before its first instruction. Path is what to execute; without one
// the stage looks for argv[0] as a shell does. With a nil identity it runs as looptrace does.
func startStopped(path string, argv []string, who *identity, stdin *os.File) (*actor, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", visible(argv[0]), err)
	}
	defer read.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{os.Args[0], stageCommand, who.String(), path}, argv...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, os.Stdout, os.Stderr
	cmd.Env = who.environ(os.Environ())
	cmd.ExtraFiles = []*os.File{read}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", visible(argv[0]), errors.Join(err, write.Close()))
	}
	return &actor{cmd: cmd, gate: write}, nil
}

func (a *actor) pid() int { return a.cmd.Process.Pid }

// release lets it execute. Where it is dead by now, wait says so.
func (a *actor) release() {
	_, _ = a.gate.Write([]byte{'\n'})
	_ = a.gate.Close()
}

// abandon ends it before it executed anything.
func (a *actor) abandon() error {
	if err := errors.Join(a.gate.Close(), a.cmd.Process.Kill()); err != nil {
		return fmt.Errorf("end command: %w", err)
	}
	a.wait()
	return nil
}

// wait gives its exit code as a shell does.
func (a *actor) wait() int {
	var exit *exec.ExitError
	if err := a.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return exitFailed
	}
	status, ok := a.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return exitSignal + int(status.Signal())
	}
	return a.cmd.ProcessState.ExitCode()
}

// stage is the other side: `looptrace __stage IDENTITY PATH ARGV…`. It returns only where the command
// could not be executed.
func stage(args []string) int {
	gate := os.NewFile(stageGate, "gate")
	if n, _ := gate.Read(make([]byte, 1)); n == 0 || len(args) < 3 {
		return exitFailed
	}
	gate.Close()
	who, path, argv := args[0], args[1], args[2:]
	err := become(who)
	if err == nil {
		err = execute(path, argv)
	}
	fmt.Fprintf(os.Stderr, "looptrace: %s: %v\n", visible(argv[0]), err)
	switch {
	case errors.Is(err, errNoCommand), errors.Is(err, syscall.ENOENT):
		return exitNotFound
	case errors.Is(err, errIdentity):
		return exitFailed
	default:
		return exitNotExecutable
	}
}

var errNoCommand = errors.New("command not found")

// execute replaces this process. Its error is the errno, or errNoCommand.
func execute(path string, argv []string) error {
	if path == "" {
		var err error
		if path, err = lookUp(argv[0]); err != nil {
			return err
		}
	}
	err := syscall.Exec(path, argv, os.Environ())
	if errors.Is(err, syscall.ENOEXEC) && isScript(path) {
		// POSIX has a shell run what has no #! line, and execvp(3) does the same.
		err = syscall.Exec("/bin/sh", append([]string{"sh", path}, argv[1:]...), os.Environ())
	}
	return err
}

// lookUp finds a command in PATH, the user's by now. One that may not be executed is the answer only
// where no other is found.
func lookUp(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	var refused error
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path := filepath.Join(dir, name)
		if dir == "" || dir == "." {
			path = "./" + name
		}
		switch info, err := os.Stat(path); {
		case err != nil || info.IsDir():
		case info.Mode()&0o111 != 0:
			return path, nil
		default:
			refused = syscall.EACCES
		}
	}
	if refused != nil {
		return "", refused
	}
	return "", errNoCommand
}

// isScript tells a text from a program for another machine, as shells do: by a zero byte in the first
// line.
func isScript(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 128)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return false
	}
	line, _, _ := bytes.Cut(head[:n], []byte{'\n'})
	return bytes.IndexByte(line, 0) < 0
}
