// SPDX-License-Identifier: GPL-2.0-or-later

package lease

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var lua embed.FS

// script is one of lua/. common.lua stands before each.
type script struct {
	name string
	safe bool // its effect is waited for until a replica has it
}

// The scripts.
var (
	scriptOpen      = script{name: "open"}
	scriptAcquire   = script{name: "acquire", safe: true}
	scriptTentative = script{name: "acquire"} // also to look whether there is something to be had
	scriptExtend    = script{name: "extend"}
	scriptRelease   = script{name: "release"}
	scriptYield     = script{name: "yield"}
	scriptReserve   = script{name: "reserve", safe: true}
	scriptAssert    = script{name: "assert"}
	scriptList      = script{name: "list"}
	scriptHolder    = script{name: "holder"}
	scriptOwed      = script{name: "owed"}
	scriptCheck     = script{name: "check"}
	scriptClaim     = script{name: "claim"}
	scriptReclaim   = script{name: "reclaim"}
	scriptUnclaim   = script{name: "unclaim"}
)

// tries bounds how often a script is sent: once, once more after it was loaded, after a pool was made, after a slot moved.
const tries = 4

// skipped is how many never used indices a new epoch leaves out, until it is sure who has what, or an eighth of those left.
const skipped = 1000

// scripts by name, with their hashes.
type scripts map[string]*goredis.Script

// loadScripts reads lua/: common.lua and, behind it, each of the others.
func loadScripts() (scripts, error) {
	common, err := lua.ReadFile("lua/common.lua")
	if err != nil {
		return nil, err
	}
	files, err := lua.ReadDir("lua")
	if err != nil {
		return nil, err
	}
	out := scripts{}
	for _, file := range files {
		own, err := lua.ReadFile("lua/" + file.Name())
		if err != nil {
			return nil, err
		}
		out[strings.TrimSuffix(file.Name(), ".lua")] = goredis.NewScript(string(common) + string(own))
	}
	return out, nil
}

// answer is what a script says: its status, the epoch of the pool, and more.
type answer struct {
	status string
	epoch  string
	rest   []any
}

// text is the i-th of the rest, "" if there is none or it is no text.
func (a answer) text(i int) string {
	if i >= len(a.rest) {
		return ""
	}
	switch v := a.rest[i].(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	}
	return ""
}

// number is the i-th of the rest.
func (a answer) number(i int) int64 {
	n, _ := strconv.ParseInt(a.text(i), 10, 64)
	return n
}

// time is the i-th of the rest, milliseconds since 1970.
func (a answer) time(i int) time.Time { return time.UnixMilli(a.number(i)) }

// until is a time of this node's clock among the arguments of a script, which is told how many milliseconds are left when it is sent,
// below 0 if none: what waited before, for a turn or for a master, does not make anything last longer. Redis has a clock of its own.
type until time.Time

// run sends a script for a pool and gives its answer. A pool that Redis has forgotten is made again.
func (r *Redis) run(ctx context.Context, s script, p *sharedPool, args ...any) (answer, error) {
	if !p.made.Load() {
		if err := r.make(ctx, p, r.options.Drop); err != nil {
			return answer{}, err
		}
	}
	for range tries {
		a, err := r.once(ctx, s, p.key, args...)
		if err != nil {
			return a, r.unavailable(err)
		}
		if a.status != "NOPOOL" {
			r.note(p, a.epoch)
			return a, nil
		}
		if err := r.make(ctx, p, false); err != nil {
			return a, err
		}
	}
	return answer{}, fmt.Errorf("pool %q does not stay in Redis: %w", p.Name, ErrUnavailable)
}

// once sends a script by its hash, or as a whole where Redis does not know it. Every wait is bounded.
func (r *Redis) once(ctx context.Context, s script, key string, args ...any) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*r.conn.Timeout())
	defer cancel()
	var err error
	for range tries {
		var master *goredis.Client
		if master, err = r.conn.Master(ctx, key); err != nil {
			return answer{}, err
		}
		var a answer
		a, err = r.send(ctx, master, s, key, args)
		switch {
		case err == nil:
			return a, nil
		case goredis.HasErrorPrefix(err, "NOSCRIPT"):
			if err := r.scripts[s.name].Load(ctx, master).Err(); err != nil {
				return answer{}, err
			}
		case !r.conn.Moved(ctx, err):
			return answer{}, err
		}
	}
	return answer{}, err
}

// send sends a script. What gives somebody something is waited for until a replica has it, over the same connection; one
// that is late is not waited for any longer, since the node that asked asserts its lease should it be lost.
func (r *Redis) send(ctx context.Context, master *goredis.Client, s script, key string, args []any) (answer, error) {
	keys, all := []string{key}, r.preamble()
	for _, arg := range args {
		if at, ok := arg.(until); ok {
			arg = time.Time(at).Sub(r.clock()).Milliseconds()
		}
		all = append(all, arg)
	}
	if !s.safe || r.replicas.Load() == 0 {
		return r.read(master.EvalSha(ctx, r.scripts[s.name].Hash(), keys, all...))
	}
	var cmd *goredis.Cmd
	var wait *goredis.Cmd
	_, err := master.Pipelined(ctx, func(p goredis.Pipeliner) error {
		cmd = p.EvalSha(ctx, r.scripts[s.name].Hash(), keys, all...)
		wait = p.Do(ctx, "WAIT", 1, max(1, (r.conn.Timeout()/4).Milliseconds()))
		return nil
	})
	a, failed := r.read(cmd)
	if acknowledged, _ := wait.Int(); failed == nil && (err != nil || acknowledged == 0) {
		r.metrics.unreplicated.Inc()
	}
	return a, failed
}

// preamble is what common.lua reads.
func (r *Redis) preamble() []any {
	now := any("")
	if r.options.Time != nil {
		now = r.options.Time().UnixMilli()
	}
	return []any{now, r.options.Grace.Milliseconds(), skipped, r.options.Jump.Milliseconds()}
}

// read takes the answer of a script.
func (r *Redis) read(cmd *goredis.Cmd) (answer, error) {
	values, err := cmd.Slice()
	if err != nil {
		return answer{}, err
	}
	if len(values) < 1 {
		return answer{}, errors.New("empty answer of a script")
	}
	a := answer{}
	a.status, _ = values[0].(string)
	if len(values) >= 3 {
		a.epoch, _ = values[1].(string)
		replicas, _ := values[2].(int64)
		r.replicas.Store(replicas)
		a.rest = values[3:]
	}
	return a, nil
}
