package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// A tree is a process with all its descendants.
type tree int

// pids lists the processes of the tree.
func (t tree) pids() []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	for _, file := range stats {
		fields, pid, err := statFields(file)
		if err != nil {
			continue // it has ended
		}
		parent, _ := strconv.Atoi(string(fields[1]))
		children[parent] = append(children[parent], pid)
	}
	out := []int{int(t)}
	for i := 0; i < len(out); i++ {
		out = append(out, children[out[i]]...)
	}
	return out
}

// statFields returns the fields of a stat file from the third on.
func statFields(file string) (fields [][]byte, pid int, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, 0, err
	}
	pid, err = strconv.Atoi(filepath.Base(filepath.Dir(file)))
	end := bytes.LastIndexByte(b, ')')
	if err != nil || end < 0 {
		return nil, 0, errors.New("no stat file")
	}
	if fields = bytes.Fields(b[end+1:]); len(fields) < 15 {
		return nil, 0, errors.New("a short stat file")
	}
	return fields, pid, nil
}

// cpu is the processor time of the tree so far, of children that have ended too.
// The kernel counts in hundredths of a second.
func (t tree) cpu() time.Duration {
	var ticks int64
	for _, pid := range t.pids() {
		fields, _, err := statFields(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		for _, f := range fields[11:15] { // utime, stime, cutime, cstime
			n, _ := strconv.ParseInt(string(f), 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * (time.Second / 100)
}

// pss is the memory of the tree in octets: what is shared counts for each in
// parts.
func (t tree) pss() int64 {
	var sum int64
	for _, pid := range t.pids() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue // it has ended
		}
		for line := range bytes.Lines(b) {
			var kb int64
			if n, _ := fmt.Sscanf(string(line), "Pss: %d kB", &kb); n == 1 {
				sum += kb << 10
				break
			}
		}
	}
	return sum
}

// watch samples the memory of the tree until the function it returns is called,
// which gives the growth in octets up to the peak.
func (t tree) watch() (growth func() int64) {
	before := t.pss()
	peak := before
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(25 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				peak = max(peak, t.pss())
			case <-done:
				return
			}
		}
	})
	return func() int64 {
		close(done)
		wg.Wait()
		return max(peak, t.pss()) - before
	}
}
