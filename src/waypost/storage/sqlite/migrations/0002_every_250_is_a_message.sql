-- Retransmissions are not recognised any more: every 250 is a message of its own (docs/decisions/0005).
DROP TABLE unconfirmed;
