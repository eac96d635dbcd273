// Who is to be woken when: a binary heap of sessions by their due time, so that thousands of them need one timer.

/** Something that is due at a time; the queue keeps its place in `slot`, -1 while it is not queued. */
export interface Due {
  due: number;
  slot: number;
}

export class TimerQueue<T extends Due> {
  readonly #heap: T[] = [];

  /** The earliest, or undefined. */
  get first(): T | undefined {
    return this.#heap[0];
  }

  get size(): number {
    return this.#heap.length;
  }

  /** Queues the item for `due`, or moves it; Infinity takes it out. */
  set(item: T, due: number): void {
    if (due === Number.POSITIVE_INFINITY) {
      this.remove(item);
      return;
    }
    const earlier = item.slot === -1 || due < item.due;
    item.due = due;
    if (item.slot === -1) {
      item.slot = this.#heap.length;
      this.#heap.push(item);
    }
    if (earlier) this.#up(item);
    else this.#down(item);
  }

  remove(item: T): void {
    const { slot } = item;
    if (slot === -1) return;
    item.slot = -1;
    item.due = Number.POSITIVE_INFINITY;
    const last = this.#heap.pop();
    if (last === undefined || last === item) return;
    this.#heap[slot] = last;
    last.slot = slot;
    this.#up(last);
    this.#down(last);
  }

  #up(item: T): void {
    const heap = this.#heap;
    let { slot } = item;
    while (slot > 0) {
      const parentSlot = (slot - 1) >> 1;
      const parent = heap[parentSlot] as T;
      if (parent.due <= item.due) break;
      heap[slot] = parent;
      parent.slot = slot;
      slot = parentSlot;
    }
    heap[slot] = item;
    item.slot = slot;
  }

  #down(item: T): void {
    const heap = this.#heap;
    let { slot } = item;
    for (;;) {
      let childSlot = 2 * slot + 1;
      if (childSlot >= heap.length) break;
      const right = heap[childSlot + 1];
      if (right !== undefined && right.due < (heap[childSlot] as T).due) childSlot++;
      const child = heap[childSlot] as T;
      if (child.due >= item.due) break;
      heap[slot] = child;
      child.slot = slot;
      slot = childSlot;
    }
    heap[slot] = item;
    item.slot = slot;
  }
}
