// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/looptrace/looptrace/tracer"
	"github.com/looptrace/looptrace/tracer/flow"
)

// demoCommand is `looptrace demo`.
func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "trace a small scene on real sockets: a server, a client, a refusal, a port in use",
		Description: `It starts a few processes of its own that bind, connect and die on 127.0.0.1, traces them and
shows what comes out. It touches nothing else. Exits with 1 if an expected record did not come.`,
		Action: demo,
	}
}

func demo(c *cli.Context) error {
	p := parser{given: given{c}}
	o := &options{format: p.word("output", plainFormats, formatText)}
	if p.err != nil {
		return p.err
	}
	o.cfg = tracer.Config{Filter: flow.Filter{Tree: true}, Version: version}
	o.cfg.Filters = map[string]any{"run": "demo"}
	ctx, stop := interruptible(c.Context, true)
	defer stop()
	cast, err := newCast()
	if err != nil {
		return err
	}
	defer cast.leave()
	prompt := &prompter{sink: newSink(os.Stdout, o.format)}
	s, err := newSession(o, prompt)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.tracer.Plant(os.Getpid()); err != nil {
		return err
	}
	d := &director{cast: cast, prompt: prompt, narrate: io.Discard}
	if o.format == formatText {
		d.narrate = os.Stdout
	}
	return d.direct(ctx, s)
}

// director plays the scene, one step after the other, each when the records of the last one are out.
type director struct {
	cast    *cast
	prompt  *prompter
	narrate io.Writer // captions

	server *actor // the one that listens, or did last
	port   uint16
}

// direct traces the scene. Its error is the tracer's, or that of the first step that went wrong.
func (d *director) direct(ctx context.Context, s *session) error {
	tracing, cancel := context.WithCancel(ctx)
	defer cancel()
	var err error
	traced := make(chan struct{})
	go func() { // ends with tracing, or by itself: a closed pipe, which is no error
		err = s.trace(tracing)
		cancel()
		close(traced)
	}()
	played := d.play(tracing, s)
	cancel()
	<-traced
	if err := errors.Join(err, played); err != nil || ctx.Err() != nil {
		return err
	}
	d.say("That was all of it, seen by %s hooks. Now your own: sudo looptrace, or sudo looptrace PORT", s.tracer.Form())
	return nil
}

// play is the scene. It is broken off where ctx ends: others say why.
func (d *director) play(ctx context.Context, s *session) error {
	select {
	case <-s.tracer.Ready():
	case <-ctx.Done():
		return nil
	}
	for _, step := range []func() error{d.listen, d.connect, d.kill, d.refuse, d.takeOver, d.collide} {
		if err := step(); err != nil {
			return err
		}
		if err := d.prompt.wait(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
	return nil
}

func (d *director) say(format string, args ...any) {
	fmt.Fprintf(d.narrate, "\n# "+format+"\n", args...)
}

func (d *director) listen() (err error) {
	d.say("A server binds port 0: the kernel picks one.")
	if d.server, err = d.cast.enter("server", sceneServe, 0); err != nil {
		return err
	}
	d.prompt.expect("the server's bind, with a port that the kernel picked", func(r *flow.Record) bool {
		if !bySocket(r, "bind", d.server) || r.Failed() || !r.Sock.Ephemeral {
			return false
		}
		d.port = r.Port
		return true
	})
	d.prompt.expect("the server's listen", func(r *flow.Record) bool { return bySocket(r, "listen", d.server) && !r.Failed() })
	d.server.release()
	return nil
}

func (d *director) connect() error {
	d.say("A client connects to it. Both ends are named, and what each sent is counted.")
	client, err := d.cast.enter("client", sceneDial, d.port)
	if err != nil {
		return err
	}
	for _, event := range []string{"connect", "accept", "close"} {
		d.prompt.expect("the "+event+" with both ends", func(r *flow.Record) bool {
			return r.Event == event && !r.Failed() && is(r.Conn.Client.Process, client) && is(r.Conn.Server.Process, d.server)
		})
	}
	client.release()
	return nil
}

func (d *director) kill() error {
	d.say("The server is killed, and loses its port.")
	d.prompt.expect("the server's release, with the signal", func(r *flow.Record) bool {
		return bySocket(r, "release", d.server) && r.Sock.Exit.Signal == int(syscall.SIGKILL)
	})
	return d.server.cmd.Process.Kill()
}

func (d *director) refuse() error {
	d.say("A client still dials the port. Who used to listen there?")
	client, err := d.cast.enter("client", sceneDial, d.port)
	if err != nil {
		return err
	}
	d.prompt.expect("the refusal, with the last listener", func(r *flow.Record) bool {
		return r.Event == "connect" && r.Errno == int32(syscall.ECONNREFUSED) && is(r.Conn.Client.Process, client) &&
			r.Conn.LastListener != nil && is(r.Conn.LastListener.Process, d.server)
	})
	client.release()
	return nil
}

func (d *director) takeOver() (err error) {
	d.say("Another server takes that port, by its number.")
	if d.server, err = d.cast.enter("server", sceneServe, d.port); err != nil {
		return err
	}
	d.prompt.expect("the second server's listen", func(r *flow.Record) bool {
		return bySocket(r, "listen", d.server) && !r.Failed() && r.Port == d.port
	})
	d.server.release()
	return nil
}

func (d *director) collide() error {
	d.say("A third program wants the port, and is told that it is in use. By whom?")
	rival, err := d.cast.enter("rival", sceneServe, d.port)
	if err != nil {
		return err
	}
	d.prompt.expect("the failed bind, with the holder", func(r *flow.Record) bool {
		return bySocket(r, "bind", rival) && r.Errno == int32(syscall.EADDRINUSE) &&
			r.Sock.Holder != nil && is(r.Sock.Holder.Process, d.server)
	})
	rival.release()
	return nil
}

// bySocket says whether a record is of this event and names this process as its actor.
func bySocket(r *flow.Record, event string, a *actor) bool {
	return r.Event == event && r.Sock != nil && is(r.Sock.Process, a)
}

func is(named flow.Actor, a *actor) bool { return named.P != nil && int(named.P.PID) == a.pid() }
