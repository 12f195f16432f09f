// SPDX-License-Identifier: GPL-2.0-or-later

package journal

import (
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	// syncEvery is how much of the new file is written before it is brought to the disk, so that the commits of
	// appenders never wait behind more than that.
	syncEvery = 4 << 20
	// tailRounds and tailRest bound the catching up with appenders: what is left then is copied while they wait.
	tailRounds = 16
	tailRest   = 256 << 10
)

// errOvertaken: an append failed while the snapshot was taken, which may hold what its owner has undone since.
var errOvertaken = errors.New("an append failed meanwhile")

// Compact writes the journal anew from Options.Snapshot. Appends go on meanwhile. After an error the old file goes on.
func (j *Journal) Compact() error {
	j.compacting.Lock()
	defer j.compacting.Unlock()
	if j.opts.Snapshot == nil {
		return fmt.Errorf("journal %s: no snapshot to compact from", j.path)
	}
	select {
	case <-j.quit: // the file may be another process's by now
		return fmt.Errorf("journal %s: %w", j.path, ErrClosed)
	default:
	}
	if err := j.compact(); err != nil {
		j.compactAt.Store(j.size.Load() + j.opts.CompactSize/4)
		return fmt.Errorf("journal %s: compaction: %w", j.path, err)
	}
	j.planCompaction(j.size.Load())
	return nil
}

// maybeCompact starts a compaction if the file has grown enough. Only the writer calls it.
func (j *Journal) maybeCompact() {
	if j.opts.Snapshot == nil || j.size.Load() < j.compactAt.Load() || !j.background.CompareAndSwap(false, true) {
		return
	}
	j.gone.Go(func() {
		defer j.background.Store(false)
		before, start := j.size.Load(), time.Now()
		err := j.Compact()
		if errors.Is(err, ErrClosed) {
			return
		}
		if err != nil {
			j.opts.Logger.Error().Err(err).Msg("the journal keeps growing until this succeeds")
			return
		}
		j.opts.Logger.Info().Str("file", j.path).Int64("before", before).Int64("after", j.size.Load()).
			Dur("took", time.Since(start)).Msg("journal compacted")
	})
}

// planCompaction sets the size at which the next compaction begins: twice that after the last one.
func (j *Journal) planCompaction(base int64) {
	j.compactAt.Store(max(j.opts.CompactSize, 2*base))
}

func (j *Journal) compact() error {
	// The order matters: all frames before tail are in the owner's state when the snapshot begins.
	failures, tail := j.failures.Load(), j.size.Load()
	f, c, err := j.newFile()
	if err != nil {
		return err
	}
	w := &compactor{journal: j, file: f, codec: c, size: int64(headerSize), tail: tail, batch: newBatch(nil)}
	err = j.opts.Snapshot(w.add)
	if err == nil {
		err = w.flush()
	}
	if err == nil {
		err = w.catchUp()
	}
	if err == nil {
		err = j.between(func() error { return w.takeOver(failures) })
	}
	if err != nil && !w.done {
		return errors.Join(err, f.Close(), os.Remove(j.newPath()))
	}
	return err
}

// between runs task on the writer's goroutine, between two commits.
func (j *Journal) between(task func() error) error {
	result := make(chan error, 1)
	select {
	case j.task <- func() { result <- task() }:
		return <-result
	case <-j.quit:
		return ErrClosed
	}
}

func (j *Journal) newPath() string { return j.path + ".new" }

// newFile makes the file that is to take the journal's name, with its header.
func (j *Journal) newFile() (file, codec, error) {
	c, err := newCodec(j.opts.Rand)
	if err != nil {
		return nil, c, err
	}
	f, err := os.OpenFile(j.newPath(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, c, err
	}
	if _, err := f.WriteAt(c.header(j.opts.Kind, 0), 0); err != nil {
		return nil, c, errors.Join(err, f.Close(), os.Remove(j.newPath()))
	}
	return j.opts.wrap(f), c, nil
}

// compactor writes the new file.
type compactor struct {
	journal *Journal
	file    file
	codec   codec
	size    int64 // of the new file
	synced  int64 // of that, on disk
	tail    int64 // how far the old file is in the new one
	batch   *batch
	done    bool // the new file has taken the old one's name
}

// add takes a record of the snapshot.
func (w *compactor) add(record []byte) error {
	size := recordSize(record)
	if size > MaxRecord {
		return fmt.Errorf("%w: %d octets, %d is the most", ErrTooLarge, size, MaxRecord)
	}
	w.batch.frame = appendRecord(w.batch.frame, record)
	if len(w.batch.frame) < frameHeaderSize+maxPayload/4 {
		return nil
	}
	return w.flush()
}

func (w *compactor) flush() error {
	if len(w.batch.frame) == frameHeaderSize {
		return nil
	}
	err := w.put(w.batch.frame)
	w.batch.frame = w.batch.frame[:frameHeaderSize]
	return err
}

func (w *compactor) put(frame []byte) error {
	select {
	case <-w.journal.quit:
		return ErrClosed
	default:
	}
	w.codec.seal(frame)
	if _, err := w.file.WriteAt(frame, w.size); err != nil {
		return err
	}
	w.size += int64(len(frame))
	if w.size-w.synced < syncEvery {
		return nil
	}
	return w.sync()
}

func (w *compactor) sync() error {
	w.synced = w.size
	return w.file.Datasync()
}

// catchUp copies what was appended since the last look, until little is left.
func (w *compactor) catchUp() error {
	for range tailRounds {
		if w.journal.size.Load()-w.tail < tailRest {
			break
		}
		if err := w.copyTail(); err != nil {
			return err
		}
	}
	return w.sync()
}

// copyTail copies the frames of the old file that are not in the new one.
func (w *compactor) copyTail() error {
	end := w.journal.size.Load()
	frame := make([]byte, frameHeaderSize)
	reached, err := scan(w.journal.file, w.journal.codec, w.tail, end, func(_ int64, payload []byte) error {
		frame = append(frame[:frameHeaderSize], payload...)
		return w.put(frame)
	})
	if err != nil {
		return err
	}
	if reached != end {
		return fmt.Errorf("the old file cannot be read at offset %d", reached)
	}
	w.tail = end
	return nil
}

// takeOver gives the new file the old one's name. It runs between two commits.
func (w *compactor) takeOver(failures int64) error {
	j := w.journal
	if j.failures.Load() != failures {
		return errOvertaken
	}
	if err := w.copyTail(); err != nil {
		return err
	}
	if _, err := w.file.WriteAt(w.codec.header(j.opts.Kind, w.size), 0); err != nil {
		return err
	}
	if err := w.sync(); err != nil {
		return err
	}
	if err := os.Rename(j.newPath(), j.path); err != nil {
		return err
	}
	w.done = true
	old := j.file
	j.file, j.codec = w.file, w.codec
	j.size.Store(w.size)
	// From here on the new file is the journal. Until its name is on disk too, nothing can be acknowledged.
	j.dirty = true
	_ = j.repair()  // else the next commit does it, or fails
	_ = old.Close() // nothing of it is needed any more
	return nil
}

// syncFolder brings the names in a folder to the disk.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
