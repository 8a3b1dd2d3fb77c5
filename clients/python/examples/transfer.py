"""Moves an amount between two accounts: `python transfer.py segue://127.0.0.1:7400`."""

import sys

import segue


def transfer(tx: segue.Transaction, source: int, target: int, amount: int) -> None:
    """Takes from one and gives to the other; `run` repeats it after a conflict."""
    left = tx.query("SELECT balance FROM accounts WHERE id = $1", source).value()
    if left < amount:
        raise ValueError(f"account {source} has {left}, less than {amount}")
    move = "UPDATE accounts SET balance = balance + $1 WHERE id = $2"
    tx.execute(move, -amount, source)
    # The last statement commits: the transaction takes three calls in all.
    tx.execute(move, amount, target, commit=True)


def main(url: str) -> None:
    """Connects, moves, looks."""
    with segue.connect(url, connect_timeout=30) as db:
        db.run(lambda tx: transfer(tx, 40, 41, 5), isolation="serializable")
        # The connection keeps the token of the commit, so that this read sees it on either side.
        for account, balance in db.query(
            "SELECT id, balance FROM accounts WHERE id IN (40, 41) ORDER BY id"
        ):
            print(f"account {account}: {balance}")
        print("moved 5")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "segue://127.0.0.1:7400")
