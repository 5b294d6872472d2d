"""A policy that prepares each transaction as a test wants it, and decides on the message as reception does."""

from collections.abc import Awaitable, Callable

from tests.intake.conversation import Conversation, House

from waypost.config.settings import ListenerProtocol
from waypost.intake import Admitted, Arrived, Client, Examined, Transaction, TransactionTasks
from waypost.message.envelope import Envelope, Recipient
from waypost.protocol.reply import Reply
from waypost.reception import ReceptionPolicy


class Prepared:
    """`prepare` is called with each transaction at MAIL, `judge` with each message that has arrived."""

    def __init__(
        self,
        house: House,
        prepare: Callable[[Transaction], Awaitable[None] | None] = lambda transaction: None,
        judge: Callable[[Transaction, Arrived], Reply | None] = lambda transaction, arrived: None,
        tasks: TransactionTasks | None = None,
    ) -> None:
        self.tasks = tasks or TransactionTasks()
        self._reception = ReceptionPolicy(book=house.book())
        self._prepare = prepare
        self._judge = judge

    def hello(self, client: Client) -> Reply:
        return self._reception.hello(client)

    async def mail(self, client: Client, envelope: Envelope) -> Reply | Transaction:
        transaction = Transaction(client, envelope, self, self.tasks)
        waiting = self._prepare(transaction)
        if waiting is not None:
            await waiting
        return transaction

    async def recipient(self, transaction: Transaction, recipient: Recipient) -> Reply | Admitted:
        return await self._reception.recipient(transaction, recipient)

    async def examine(self, transaction: Transaction, arrived: Arrived) -> Reply | Examined:
        refusal = self._judge(transaction, arrived)
        return refusal or await self._reception.examine(transaction, arrived)


async def talk_by(house: House, policy: Prepared, protocol: ListenerProtocol = ListenerProtocol.SMTP) -> Conversation:
    """Return a conversation with a session of this policy, which has said hello."""
    talk = Conversation(house.session(protocol, policy=policy))
    await talk.open()
    await talk.say("LHLO front.test" if protocol is ListenerProtocol.LMTP else "EHLO mx.there.test")
    return talk
