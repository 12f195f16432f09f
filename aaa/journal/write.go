// SPDX-License-Identifier: GPL-2.0-or-later

package journal

import (
	"fmt"
	"path/filepath"
	"time"
)

// After a commit that several callers shared the next one waits until pace has passed since that one began, so that more
// share it, or until a crowd waits for it. A caller on his own never waits.
const (
	pace    = 2 * time.Millisecond
	several = 4
	crowd   = 128
)

// batch is a frame to be written, and those who wait for it.
type batch struct {
	frame   []byte // the header is filled in when it is written
	callers int
	done    chan struct{} // closed when err stands
	err     error
}

// newBatch makes an empty batch, in the memory given if there is any.
func newBatch(memory []byte) *batch {
	if memory == nil {
		memory = make([]byte, frameHeaderSize, 4096)
	}
	return &batch{frame: memory[:frameHeaderSize], done: make(chan struct{})}
}

// write is the only goroutine that changes the file. It ends when the journal is closed and nobody waits any more.
func (j *Journal) write() {
	for {
		select {
		case <-j.kick:
			j.commitAll()
		case task := <-j.task:
			task()
		case <-j.quit:
			j.commitAll()
			return
		}
	}
}

// commitAll writes batches until there is none, letting a task in between two of them.
func (j *Journal) commitAll() {
	for b := j.next(); b != nil; b = j.next() {
		began := time.Now()
		b.err = j.commit(b.frame)
		j.recycle(b)
		close(b.done)
		if b.callers >= several {
			j.gather(began.Add(pace))
		}
		select {
		case task := <-j.task:
			task()
		default:
		}
	}
	j.maybeCompact()
}

// gather waits for callers, no longer than until then.
func (j *Journal) gather(until time.Time) {
	left := time.Until(until)
	if left <= 0 {
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-j.crowded:
	case <-j.quit:
	}
}

// next takes the oldest batch with records, nil if there is none.
func (j *Journal) next() *batch {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.full) > 0 {
		b := j.full[0]
		j.full = j.full[1:]
		return b
	}
	if len(j.batch.frame) == frameHeaderSize {
		return nil
	}
	b := j.batch
	j.batch, j.spare = newBatch(j.spare), nil
	return b
}

// recycle keeps a written batch's memory for a coming one.
func (j *Journal) recycle(b *batch) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.spare, b.frame = b.frame, nil
}

// commit puts a frame on disk. After an error the file is as before, or is made so before the next commit.
func (j *Journal) commit(frame []byte) error {
	err := j.repair()
	if err == nil {
		j.codec.seal(frame)
		err = j.put(frame)
	}
	if err != nil {
		j.failures.Add(1)
		return fmt.Errorf("journal %s: %w", j.path, err)
	}
	return nil
}

func (j *Journal) put(frame []byte) error {
	size := j.size.Load()
	j.dirty = true
	_, err := j.file.WriteAt(frame, size)
	if err == nil {
		err = j.file.Datasync()
	}
	if err != nil {
		// What was written of the frame must not stand before a later one. If this fails too, the next commit does it.
		_ = j.repair()
		return err
	}
	j.dirty = false
	j.size.Store(size + int64(len(frame)))
	return nil
}

// repair makes the file end where the last acknowledged frame does, and its name stand for it on disk.
func (j *Journal) repair() error {
	if !j.dirty {
		return nil
	}
	if err := j.file.Truncate(j.size.Load()); err != nil {
		return err
	}
	if err := j.file.Datasync(); err != nil {
		return err
	}
	if err := syncFolder(filepath.Dir(j.path)); err != nil {
		return err
	}
	j.dirty = false
	return nil
}
