package queue

// dueHeap orders waiting records by due time. Each record knows its place in
// it, so that any of them can be taken out.
type dueHeap struct {
	t       *table
	handles []handle
}

func (q *dueHeap) less(i, j int) bool { return q.t.at(q.handles[i]).due < q.t.at(q.handles[j]).due }

func (q *dueHeap) set(i int, h handle) {
	q.handles[i] = h
	q.t.at(h).a = uint32(i)
}

func (q *dueHeap) swap(i, j int) {
	hi, hj := q.handles[i], q.handles[j]
	q.set(i, hj)
	q.set(j, hi)
}

func (q *dueHeap) push(h handle) {
	q.handles = append(q.handles, h)
	q.set(len(q.handles)-1, h)
	q.up(len(q.handles) - 1)
}

// appendUnordered adds a record without ordering; heapify must follow.
func (q *dueHeap) appendUnordered(h handle) {
	q.handles = append(q.handles, h)
	q.set(len(q.handles)-1, h)
}

func (q *dueHeap) heapify() {
	for i := len(q.handles)/2 - 1; i >= 0; i-- {
		q.down(i)
	}
}

// remove takes h out.
func (q *dueHeap) remove(h handle) {
	i, last := int(q.t.at(h).a), len(q.handles)-1
	if i != last {
		q.swap(i, last)
	}
	q.handles = q.handles[:last]
	if i < last {
		q.down(i)
		q.up(i)
	}
	if last == 0 {
		q.handles = nil
	}
}

func (q *dueHeap) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !q.less(i, parent) {
			return
		}
		q.swap(i, parent)
		i = parent
	}
}

func (q *dueHeap) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(q.handles) {
			return
		}
		if child+1 < len(q.handles) && q.less(child+1, child) {
			child++
		}
		if !q.less(child, i) {
			return
		}
		q.swap(i, child)
		i = child
	}
}
