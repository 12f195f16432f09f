// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// op is something a node does, which takes several commands to Redis. Only one op runs at a time, and before each command
// chance decides which: so what nodes do at the same time is mixed in every way, and a seed gives the same again.
type op struct {
	node   *worldNode
	owner  string // who it is about, "" nobody
	resume chan struct{}
	done   bool
	dead   bool // the daemon died meanwhile: nobody hears what came of it
}

// begin has a node do something from now on. fn's effects on the world are those of its end, unless the op is dead then.
func (n *worldNode) begin(owner string, fn func(o *op)) *op {
	o := &op{node: n, owner: owner, resume: make(chan struct{})}
	n.w.ops = append(n.w.ops, o)
	go func() {
		<-o.resume
		fn(o)
		o.done = true
		n.w.yielded <- struct{}{}
	}()
	return o
}

// proceed lets the i-th op go on until its next command, or its end.
func (w *world) proceed(i int) {
	o := w.ops[i]
	w.running = o
	o.resume <- struct{}{}
	<-w.yielded
	w.running = nil
	if o.done {
		w.ops[i] = w.ops[len(w.ops)-1]
		w.ops = w.ops[:len(w.ops)-1]
	}
	if w.wrong != "" {
		w.fail("%s", w.wrong)
	}
}

// drain lets all ops come to their ends.
func (w *world) drain() {
	for len(w.ops) > 0 {
		w.proceed(w.IntN(len(w.ops)))
	}
}

// faults stands between a node and Redis: a command is not sent, or sent and its answer lost, or it arrives long after it
// was given up, as it does at a server that hung.
type faults struct {
	w    *world
	away bool
}

var errFault = &net.OpError{Op: "read", Err: errors.New("fault")}

func (f *faults) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (f *faults) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		if cmd.Name() != "evalsha" { // what goes before is a matter of connections and of what the server has seen
			return next(ctx, cmd)
		}
		err := f.pass(ctx, func(ctx context.Context) error {
			cmd.Args()[4] = f.w.now.Add(f.w.skew).UnixMilli() // as Redis has it when the script comes to it
			return next(ctx, cmd)
		})
		if errors.Is(err, errFault) {
			cmd.SetErr(err)
		}
		return err
	}
}

func (f *faults) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		err := f.pass(ctx, func(ctx context.Context) error { return next(ctx, cmds) })
		if errors.Is(err, errFault) {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
		}
		return err
	}
}

// idle lets others go on while an op waits for an owner's turn, so that who has it comes to its end.
func (f *faults) idle() {
	w, o := f.w, f.w.running
	if o == nil {
		w.proceed(w.IntN(len(w.ops)))
		return
	}
	w.yielded <- struct{}{}
	<-o.resume
}

// pass sends, or does not.
func (f *faults) pass(ctx context.Context, send func(context.Context) error) error {
	w, o := f.w, f.w.running
	if o != nil && !o.dead {
		w.yielded <- struct{}{}
		<-o.resume
	}
	if o != nil && o.dead || f.away {
		return errFault
	}
	w.did.commands++
	chance := w.IntN(1000)
	if w.calm {
		chance = 1000
	}
	if chance < 3 {
		w.did.late++
		owner := ""
		if o != nil {
			owner = o.owner
		}
		w.late = append(w.late, func() {
			w.tried(owner)
			_ = send(context.WithoutCancel(ctx))
		})
		return errFault
	}
	err := send(ctx)
	if failed := net.Error(nil); errors.As(err, &failed) {
		w.wrong = fmt.Sprintf("Redis has failed by itself, of which the world knows nothing: %v", err)
	}
	if err != nil && strings.HasPrefix(err.Error(), "ERR ") {
		w.wrong = fmt.Sprintf("a script fails: %v", err)
	}
	if chance < 10 {
		w.did.lost++
		return errFault
	}
	return err
}

// arrive has a command that was given up come to Redis all the same.
func (w *world) arrive() {
	if len(w.late) == 0 {
		return
	}
	i := w.IntN(len(w.late))
	send := w.late[i]
	w.late[i] = w.late[len(w.late)-1]
	w.late = w.late[:len(w.late)-1]
	w.note("a command arrives late")
	send()
}

// What a replica that lags has, or a dump: one script that reads it and one that puts it in force.
var (
	worldSave = goredis.NewScript(`
		local out = {}
		for _, key in ipairs(redis.call('KEYS', '*')) do
			out[#out + 1] = key
			out[#out + 1] = redis.call('DUMP', key)
		end
		return out`)
	worldRestore = goredis.NewScript(`
		redis.call('FLUSHALL')
		for i = 1, #ARGV, 2 do redis.call('RESTORE', ARGV[i], 0, ARGV[i + 1]) end`)
)

// save keeps what Redis has.
func (w *world) save() {
	var err error
	w.restored = false
	w.dump, err = worldSave.Run(w.Context(), w.admin, nil).Slice()
	w.must(err)
}

// failover puts in force what was saved: all writes since are lost.
func (w *world) failover() {
	ctx := w.Context()
	w.did.failovers++
	w.restored = true
	w.event()
	if err := worldRestore.Run(ctx, w.admin, nil, w.dump...).Err(); !errors.Is(err, goredis.Nil) {
		w.must(err)
	}
	w.must(w.admin.Do(ctx, "DEBUG", "CHANGE-REPL-ID").Err())
}

// loseAll is a Redis without disk that is started anew.
func (w *world) loseAll() {
	ctx := w.Context()
	w.did.losses++
	w.event()
	w.must(w.admin.FlushAll(ctx).Err())
	w.must(w.admin.Do(ctx, "DEBUG", "CHANGE-REPL-ID").Err())
}

// fill makes Redis refuse what would need memory, or no longer.
func (w *world) fill(full bool) {
	limit := "0"
	if full {
		w.did.full++
		limit = "1"
	}
	w.full = full
	w.must(w.admin.ConfigSet(w.Context(), "maxmemory", limit).Err())
}

// worldCounts is what happened.
type worldCounts struct{ steps, commands, logins, late, lost, failovers, losses, jumps, deaths, apart, cuts, full int }

func (c *worldCounts) add(o worldCounts) {
	c.steps += o.steps
	c.commands += o.commands
	c.logins += o.logins
	c.late += o.late
	c.lost += o.lost
	c.failovers += o.failovers
	c.losses += o.losses
	c.jumps += o.jumps
	c.deaths += o.deaths
	c.apart += o.apart
	c.cuts += o.cuts
	c.full += o.full
}
